"""RIFT: keeps the covariance of features, with or without a rotation."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from avalanche_proxyfda._checks import check_amount, check_count, check_flag
from avalanche_proxyfda._tensors import check_matrices, full_precision, without_autocast

Rotation = Literal["identity", "spectrum", "procrustes", "learned"]
_TINY = 1e-30


class RIFTLoss(nn.Module):
    """Matches second moments of student and teacher features (arXiv 2503.07399).

    X and X0 are the centred features of a batch, C and C0 their covariances; norms are
    Frobenius norms::

        identity     |C - C0|^2 / |C0|^2
        spectrum     min over rotations Q of |C - Q C0 Q^T|^2 / |C0|^2, which equals the
                     squared distance of the sorted eigenvalues over |C0|^2
        procrustes   min over rotations Q of |X - X0 Q|^2 / |X0|^2, which compares paired
                     features in place of covariances
        learned      |C - Q C0 Q^T|^2 / |C0|^2 with the Q of :meth:`rotation`

    The loss adds ``mean_weight`` |mean - mean0|^2 / tr(C0). It is zero where student and
    teacher agree, for ``learned`` as long as Q = 1. A rotation of the student changes
    ``identity``, ``learned`` and the term of the means, and changes neither ``spectrum`` nor
    ``procrustes``. The divisors |C0|^2, |X0|^2 and tr(C0) are ours: with them no option depends
    on the scale of the features.

    ``spectrum`` and ``procrustes`` decompose a matrix in each step. On CUDA the decomposition
    synchronises host and device; ``identity`` does not.

    Args:
        q: ``"identity"``, ``"spectrum"``, ``"procrustes"`` or ``"learned"``.
        mean_weight: weight of the term of the means; 0 skips it.
        centered: False takes X and X0 as they are, and second moments in place of covariances.
        dim: D, the width of the features, for ``"learned"`` alone.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import RIFTLoss
        >>> student = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        >>> RIFTLoss()(student, student.flip(1)), RIFTLoss("spectrum")(student, student.flip(1))
        (tensor(2.), tensor(0.))
    """

    def __init__(
        self,
        q: Rotation = "identity",
        mean_weight: float = 0.0,
        centered: bool = True,
        dim: int | None = None,
    ) -> None:
        super().__init__()
        if q not in get_args(Rotation):
            raise ValueError(f"q={q!r} is unknown; choose one of {get_args(Rotation)}")
        self.q: Rotation = q
        self.mean_weight = check_amount("mean_weight", mean_weight)
        self.centered = check_flag("centered", centered)
        if (dim is None) == (q == "learned"):
            raise ValueError(
                f"q={q!r} with dim={dim}: 'learned' needs dim, the width of the features, and "
                "the other choices of q take none"
            )
        self.dim = dim
        if dim is not None:
            check_count("dim", dim, 1)
            self.skew = nn.Parameter(torch.zeros(dim, dim))
            """A is the part below the diagonal, less its transpose."""

    def rotation(self) -> Tensor:
        """Return the learned Q, [D, D], by Cayley's formula Q = (1 - A/2)^-1 (1 + A/2).

        A is skew-symmetric, so Q is orthogonal, with determinant 1 and without the eigenvalue
        -1. A = 0 at the start, so Q = 1.

        Raises:
            ValueError: if ``q`` is not ``"learned"``.

        Example:
            >>> from avalanche_proxyfda import RIFTLoss
            >>> RIFTLoss("learned", dim=2).rotation().detach()
            tensor([[1., 0.],
                    [0., 1.]])
        """
        if self.q != "learned":
            raise ValueError(f"q={self.q!r} learns no rotation; q='learned' does")
        return _cayley(self.skew)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one batch.

        Args:
            student: [B, D], receives the gradient.
            teacher: [B, D], receives none.

        Returns:
            A scalar, float32 (float64 for a float64 student).

        Raises:
            TypeError, ValueError: for inputs that are not two float matrices of the same shape,
                of the width of a learned Q.
        """
        check_matrices(student, teacher, same_width=True)
        if self.dim is not None and student.shape[1] != self.dim:
            raise ValueError(
                f"the features have {student.shape[1]} columns, but dim={self.dim} is the width "
                "of the learned Q: make a loss for these features"
            )
        with without_autocast(student):
            x, x0 = full_precision(student), full_precision(teacher.detach()).to(student.device)
            if len(x) < (2 if self.centered else 1):
                return x.sum() * 0.0
            mean, mean0 = x.mean(dim=0), x0.mean(dim=0)
            if self.centered:
                x, x0 = x - mean, x0 - mean0
            # rows are turned in place of C0: with Q = 1 both moments come out in the same bits
            turned = x0 @ _cayley(self.skew.to(x)).T if self.q == "learned" else x0
            loss = _DISTANCES[self.q](x, turned)
            if self.mean_weight:
                shift = _ratio((mean - mean0).square().sum(), x0.square().sum() / len(x0))
                loss = loss + self.mean_weight * shift
            return loss


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole, or ``part`` where the teacher's features do not vary."""
    return part / torch.where(whole > _TINY, whole, 1.0)


def _cayley(skew: Tensor) -> Tensor:
    """Return (1 - A/2)^-1 (1 + A/2), where A is ``skew`` below the diagonal, less its transpose."""
    lower = skew.tril(-1)
    half = (lower - lower.T) / 2
    one = torch.eye(len(skew), dtype=skew.dtype, device=skew.device)
    # 1 - A/2 always has an inverse, so nothing needs to be checked
    q: Tensor = torch.linalg.solve_ex(one - half, one + half).result
    return q


def _identity(x: Tensor, x0: Tensor) -> Tensor:
    c, c0 = x.T @ x / len(x), x0.T @ x0 / len(x0)
    # a rotation of x0 does not change |C0|, so no gradient passes through it
    return _ratio((c - c0).square().sum(), c0.detach().square().sum())


def _spectrum(x: Tensor, x0: Tensor) -> Tensor:
    # the B x B Gram matrix has the same nonzero eigenvalues, and is smaller if B < D
    c, c0 = ((m @ m.T if len(m) < m.shape[1] else m.T @ m) / len(m) for m in (x, x0))
    # eigh for both: without gradient, eigvalsh takes another routine with other last digits
    values, values0 = (torch.linalg.eigh(m).eigenvalues for m in (c, c0))
    return _ratio((values - values0).square().sum(), values0.square().sum())


def _procrustes(x: Tensor, x0: Tensor) -> Tensor:
    with torch.no_grad():
        a, a0 = x, x0
        basis: Tensor | None = None
        if 2 * len(x) < x.shape[1]:  # the span of the rows is enough, and smaller
            basis = torch.linalg.qr(torch.cat((x0, x)).T)[0]
            a, a0 = x @ basis, x0 @ basis
        left, _, right = torch.linalg.svd(a0.T @ a, full_matrices=False)
        turned = a0 @ (left @ right)
        turned = turned if basis is None else turned @ basis.T
    # by the envelope theorem the gradient stays exact with the best rotation as a constant;
    # the minimum with the identity makes the loss exactly zero where both agree
    best = torch.minimum((x - turned).square().sum(), (x - x0).square().sum())
    return _ratio(best, x0.square().sum())


_DISTANCES = {
    "identity": _identity,
    "spectrum": _spectrum,
    "procrustes": _procrustes,
    "learned": _identity,
}
