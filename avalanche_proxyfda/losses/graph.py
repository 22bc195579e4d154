"""The base class of losses on the neighbour graph: options, sigmoid loss, checks."""

from __future__ import annotations

import math
import warnings
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_proxyfda._checks import check_amount, check_count
from avalanche_proxyfda._tensors import check_matrices, full_precision, unit_rows, without_autocast
from avalanche_proxyfda.losses.chunks import ChunkSize, check_chunk_size
from avalanche_proxyfda.losses.neighbors import NeighborGraph
from avalanche_proxyfda.losses.start import fit_centred, some_queries, why_unfitted

NegativeWeight = Literal["similarity", "clamped", "one-minus", "unit"]


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def warn(message: str) -> None:
    """Warn; ``torch.compile`` calls this function while it traces, so no graph breaks."""
    warnings.warn(message, stacklevel=2)


def edge_weight(similarity: Tensor, positive: Tensor | bool, mode: NegativeWeight) -> Tensor:
    """Return the signed weight w of edges, from the teacher's similarity of their ends.

    Args:
        similarity: the teacher's cosines, any shape.
        positive: True for neighbours; broadcasts to ``similarity``. A neighbour's weight is
            its similarity (1 with ``"unit"``).
        mode: weight of the other rows. ``"similarity"`` gives -similarity, as the paper has it
            (Eq. 2): a non-neighbour with a negative similarity attracts. ``"clamped"`` (ours)
            gives -max(similarity, 0), so that no non-neighbour attracts. ``"one-minus"`` (ours)
            gives -(1 - similarity). ``"unit"`` gives -1, the paper's "indices only" ablation.

    Returns:
        Weights of the shape of ``similarity``.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.losses.graph import edge_weight
        >>> edge_weight(torch.tensor([0.5, -0.25]), False, "similarity").tolist()
        [-0.5, 0.25]
    """
    if mode == "unit":
        attraction, repulsion = torch.ones_like(similarity), -torch.ones_like(similarity)
    elif mode == "one-minus":
        attraction, repulsion = similarity, similarity - 1
    elif mode == "clamped":
        attraction, repulsion = similarity, -similarity.clamp_min(0)
    else:
        attraction, repulsion = similarity, -similarity
    if isinstance(positive, bool):
        return attraction if positive else repulsion
    return torch.where(positive, attraction, repulsion)


DEFAULT_NEIGHBORS = 8
"""K of the losses, if it is not given."""


class GraphLoss(nn.Module):
    """Options, learnable scale and bias, and input checks of FDA and Proxy-FDA.

    Args:
        num_neighbors: K, neighbours of each sample in the batch; at least 1. The paper's best
            fixed K is twice the samples of a class in the batch; 8 fits its 16 x 4 batches.
        negative_weight: weight of non-neighbours, see :func:`edge_weight`.
        init_logit_scale: 1 / tau at the start; the loss stores its logarithm.
        init_logit_bias: b at the start; negative, as in SigLIP.
        learnable: True makes scale and bias parameters, False makes them buffers.
        chunk_size: queries that are processed at a time; backward computes each chunk again.
            ``"auto"`` processes small batches whole, and otherwise limits a chunk's largest
            tensor to a size that depends on the device, see
            :func:`~avalanche_proxyfda.losses.chunks.block_bytes`.

    Attributes:
        default_neighbors: True if nobody chose K, for messages; a plugin sets it.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range.
    """

    log_scale: Tensor
    bias: Tensor

    def __init__(
        self,
        num_neighbors: int = DEFAULT_NEIGHBORS,
        negative_weight: NegativeWeight = "similarity",
        init_logit_scale: float = 10.0,
        init_logit_bias: float = -10.0,
        learnable: bool = True,
        chunk_size: ChunkSize = "auto",
    ) -> None:
        super().__init__()
        self.num_neighbors = check_count("num_neighbors", num_neighbors, 1)
        self.default_neighbors = num_neighbors == DEFAULT_NEIGHBORS
        if negative_weight not in get_args(NegativeWeight):
            raise ValueError(
                f"negative_weight={negative_weight!r} is unknown; choose one of "
                f"{', '.join(map(repr, get_args(NegativeWeight)))}"
            )
        self.negative_weight: NegativeWeight = negative_weight
        if check_amount("init_logit_scale", init_logit_scale) == 0:
            raise ValueError("init_logit_scale=0 must be positive: it is 1 / temperature")
        if not math.isfinite(init_logit_bias):
            raise ValueError(f"init_logit_bias={init_logit_bias} must be finite")
        scale, bias = torch.tensor(math.log(init_logit_scale)), torch.tensor(float(init_logit_bias))
        if learnable:
            self.log_scale, self.bias = nn.Parameter(scale), nn.Parameter(bias)
        else:
            self.register_buffer("log_scale", scale)
            self.register_buffer("bias", bias)
        self.chunk_size = check_chunk_size(chunk_size)
        self._clamp_warned = self._fit_warned = False

    def sigmoid_loss(self, cosine: Tensor, weight: Tensor) -> Tensor:
        """Return log(1 + exp(-w (cosine / tau + b))) for each element.

        The term is the re-weighted sigmoid of Eq. 2. The paper prints
        log(1 + exp(w (-cosine / tau + b))), which is the same with the sign of b changed.
        SigLIP's paper prints the same form, while SigLIP's code starts the form that is used
        here at 1 / tau = 10 and b = -10.
        """
        scale, bias = self.log_scale.to(cosine.dtype).exp(), self.bias.to(cosine.dtype)
        return F.softplus(-weight * (scale * cosine + bias))

    @torch.no_grad()
    def fit(self, teacher: Tensor) -> bool:
        """Set scale and bias to the minimiser of FDA's loss with the teacher as the student.

        The fit is ours, see :func:`~avalanche_proxyfda.losses.start.fit_centred`. It uses at
        most about a million pairs, of evenly spaced queries. One copy brings them to the CPU,
        so the fit synchronises with the device once.
        Where the weights of the loss have no usable fit, unit weights take their place: with
        the weights of the paper, non-neighbours with negative cosines attract, and the least
        loss can lie at a scale below zero.

        Args:
            teacher: [B, D'], the teacher's features of a batch.

        Returns:
            False, with one warning, if there is no minimiser; scale and bias then stay.
        """
        with without_autocast(teacher):
            rows = unit_rows(full_precision(teacher.detach()))
            graph = NeighborGraph.of_units(rows, self.num_neighbors)
        queries = some_queries(len(rows))
        similarity = graph.similarity[queries]
        copied = torch.stack((similarity, graph.is_neighbor()[queries].to(similarity))).cpu()
        pairs = ~torch.eye(len(rows), dtype=torch.bool)[queries]
        cosine, neighbor = copied[0][pairs], copied[1][pairs] > 0
        modes: list[NegativeWeight] = [self.negative_weight, "unit"]
        fits = (fit_centred(cosine, neighbor, edge_weight(cosine, neighbor, m)) for m in modes)
        fitted = next((fit for fit in fits if fit is not None), None)
        if fitted is None:
            if not self._fit_warned:
                self._fit_warned = True
                warn(why_unfitted(cosine))
            return False
        self.log_scale.fill_(math.log(fitted[0]))
        self.bias.fill_(fitted[1])
        return True

    def check_batch(self, student: Tensor, teacher: Tensor) -> None:
        """Raise unless both are float [B, D] with the same B; warn once if K is clamped."""
        check_matrices(student, teacher)
        if 1 < len(student) <= self.num_neighbors and not self._clamp_warned:
            self._clamp_warned = True
            default = ", the default," if self.default_neighbors else ""
            warn(
                f"num_neighbors={self.num_neighbors}{default} is clamped to {len(student) - 1} in "
                f"a batch of {len(student)} samples (this warning comes once): choose K below the "
                "batch size"
            )
