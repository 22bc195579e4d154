"""SoftFDA: keeps each sample's distribution over the others, and over further columns."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_proxyfda._tensors import full_precision, unit_rows, without_autocast
from avalanche_proxyfda.losses.chunks import ChunkSize, Sums, sum_over_queries
from avalanche_proxyfda.losses.graph import NegativeWeight
from avalanche_proxyfda.losses.neighbors import NeighborGraph
from avalanche_proxyfda.losses.soft_rows import Divergence, SoftRows, check_columns, with_columns


class SoftFDALoss(SoftRows):
    """Soft feature distribution alignment (ours).

    The loss has FDA's aim, the neighbours of each sample, and no sharpening: loss and gradient
    are exactly zero where student and teacher agree. A row i of the batch is compared with N
    columns: the other rows j of the batch, and further columns that a caller gives. c_ij are
    the student's cosines and t_ij the teacher's. With ``divergence="kl"``::

        p_ij = exp(s t_ij) / sum_k exp(s t_ik),  q_ij = exp(s c_ij) / sum_k exp(s c_ik)
        L = 1/B sum_i KL(p_i || q_i)

    The ancestor is PKT (Passalis and Tefas, ECCV 2018): without further columns the loss is
    that of PKT with a softmax kernel, see :class:`~avalanche_proxyfda.losses.pkt.PKTLoss`.

    With ``divergence="bregman"``, the loss is FDA's sigmoid loss minus its first-order expansion
    at the teacher (Huang et al., ICML 2025, Eq. 2, has f)::

        f_ij(c) = log(1 + exp(-w_ij (c / tau + b))),  w_ij = t_ij for neighbours, -t_ij for others
        L = 1/B sum_i 1/N sum_j f_ij(c_ij) - f_ij(t_ij) - f_ij'(t_ij) (c_ij - t_ij)

    f is convex in c, so no entry is negative. The neighbours of i are the K nearest rows of the
    batch, as in FDA, and each further column that is at least as near as the K-th of them.
    tau and b are constants: a loss that learnt them would flatten f.

    Further columns are the same features for student and teacher, such as the teacher's features
    of earlier samples. They tie the student's rows to a fixed space. Without them, the loss is
    invariant to a rotation of the student. It is always invariant to the scale of each row. A
    batch of one sample gives an exact zero.

    The loss saves O((B + N) D) numbers for backward. Batches above 1144 samples, and all batches
    with a ``chunk_size``, are processed in chunks of queries, as in FDA.

    Args:
        scale: s > 0 of the softmax; None takes 10. The Bregman form has none.
        divergence: ``"kl"`` or ``"bregman"``.
        num_neighbors: K of the Bregman form, see :class:`~avalanche_proxyfda.losses.FDALoss`.
        negative_weight: weight of non-neighbours in the Bregman form, see
            :func:`~avalanche_proxyfda.losses.graph.edge_weight`.
        init_logit_scale: 1 / tau of the Bregman form; :meth:`fit` sets it from a teacher.
        init_logit_bias: b of the Bregman form; :meth:`fit` sets it too.
        chunk_size: queries that are processed at a time, see :class:`GraphLoss`.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range, or a scale of the
            Bregman form.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import SoftFDALoss
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> float(SoftFDALoss()(rows, rows)), float(SoftFDALoss()(rows, rows, torch.eye(2)))
        (0.0, 0.0)
    """

    def __init__(
        self,
        scale: float | None = None,
        divergence: Divergence = "kl",
        num_neighbors: int = 8,
        negative_weight: NegativeWeight = "similarity",
        init_logit_scale: float = 10.0,
        init_logit_bias: float = -10.0,
        chunk_size: ChunkSize = "auto",
    ) -> None:
        super().__init__(
            num_neighbors,
            negative_weight,
            init_logit_scale,
            init_logit_bias,
            learnable=False,
            chunk_size=chunk_size,
        )
        self.take(divergence, scale)

    def forward(self, student: Tensor, teacher: Tensor, columns: Tensor | None = None) -> Tensor:
        """Return the loss of one batch.

        Args:
            student: [B, D], receives the gradient.
            teacher: [B, D'], receives none; D' may differ from D without ``columns``.
            columns: [M, D], further columns, which receive no gradient; None takes none.

        Returns:
            A scalar, float32 (float64 for a float64 student).

        Raises:
            TypeError, ValueError: for inputs that are not float matrices of these shapes.
        """
        self.check_batch(student, teacher)
        if columns is not None:
            check_columns(columns, student, teacher)
        with without_autocast(student):
            rows = unit_rows(full_precision(student))
            batch = len(rows)
            if batch < 2:
                return rows.sum() * 0.0
            known = unit_rows(full_precision(teacher.detach()).to(rows.dtype))
            fixed = None if columns is None else unit_rows(columns.detach().to(rows.dtype))
            own_columns, known_columns = with_columns(rows, fixed), with_columns(known, fixed)
            count = len(own_columns)
            inputs = (rows, own_columns, known, known_columns)
            (total,) = sum_over_queries(self._part, batch, self.chunk_size, count, *inputs)
            return self.mean(total, batch, count - 1)

    def _part(
        self, first: int, last: int, rows: Tensor, columns: Tensor, known: Tensor, fixed: Tensor
    ) -> Sums:
        """Sum the divergences of the queries first:last; all matrices hold unit rows."""
        cosine, similarity = rows[first:last] @ columns.T, known[first:last] @ fixed.T
        place, batch = torch.arange(len(rows), device=rows.device), len(rows)
        itself = place[first:last].unsqueeze(1) == place
        neighbors = min(self.num_neighbors, batch - 1)
        graph = NeighborGraph(similarity[:, :batch], itself, neighbors)
        return (self.between(cosine, similarity, graph),)
