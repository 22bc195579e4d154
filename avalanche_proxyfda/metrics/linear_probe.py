"""Linear probes on frozen features: multinomial logistic regression, deterministic."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_proxyfda.losses.base import check_amount
from avalanche_proxyfda.losses.neighbors import unit_rows
from avalanche_proxyfda.rng import generator

GRID = (1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True)
class Probe:
    """A fitted probe: weight [C, D] and bias [C], float64.

    Attributes:
        l2: the penalty it was fitted with.
        normalize: whether it acts on unit-norm features, or on features as they are.
    """

    weight: Tensor
    bias: Tensor
    l2: float
    normalize: bool = True

    def logits(self, features: Tensor) -> Tensor:
        """[N, C] of features [N, D] of any norm."""
        rows = features.double()
        return (unit_rows(rows) if self.normalize else rows) @ self.weight.T + self.bias

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Share of ``labels`` [N] that are predicted."""
        return float((self.logits(features).argmax(dim=1) == labels).double().mean())


def fit_probe(
    features: Tensor,
    labels: Tensor,
    classes: int,
    l2: float,
    start: Probe | None = None,
    normalize: bool = True,
    bias: bool = True,
) -> Probe:
    """Minimise mean cross-entropy + l2 / 2 |weight|^2 by L-BFGS, in float64.

    Convex, so the result does not depend on the start, which only saves steps.

    Args:
        features: [N, D].
        labels: [N] int64 in [0, ``classes``).
        classes: C.
        l2: penalty on the weight (not the bias); positive, so that a minimum exists.
        start: another penalty's probe, of the same features, to start from.
        normalize: L2-normalise each row. Otherwise all rows are divided by their root mean
            square norm for the fit, so that ``l2`` means the same, and the probe returned
            takes rows as they are: it can be the weight of a linear layer.
        bias: whether to fit one; else it is zero.

    Raises:
        ValueError: for fewer than two classes, no samples, labels out of range, a penalty
            that is not positive, or features that are not finite.
    """
    if len(features) == 0 or len(features) != len(labels):
        raise ValueError(f"features has {len(features)} rows, labels {len(labels)}")
    if classes < 2 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(f"labels must lie in [0, classes={classes}), with at least two classes")
    if check_amount("l2", l2) == 0:
        raise ValueError("l2=0 has no minimum on separable features; give a small penalty")
    rows = features.detach().double()
    scale = 1.0 if normalize else float(rows.square().sum(dim=1).mean().sqrt()) or 1.0
    rows = unit_rows(rows) if normalize else rows / scale
    if not bool(rows.isfinite().all()):
        raise ValueError("features hold NaN or Inf")
    weight = rows.new_zeros(classes, rows.shape[1]) if start is None else start.weight * scale
    offset = rows.new_zeros(classes) if start is None else start.bias.clone()
    weight = weight.detach().clone().requires_grad_()
    offset.requires_grad_(bias)
    learned = [weight, offset] if bias else [weight]
    optimizer = torch.optim.LBFGS(
        learned, max_iter=300, tolerance_grad=1e-5, tolerance_change=1e-9,
        history_size=20, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(rows @ weight.T + offset, labels) + l2 / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    slope = max(float(g.abs().max()) for g in (weight.grad, offset.grad) if g is not None)
    if slope > 1e-3:
        warnings.warn(f"the probe did not converge: gradient {slope:.1e}", stacklevel=2)
    return Probe(weight.detach() / scale, offset.detach(), l2, normalize)


def select_probe(
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    classes: int,
    grid: tuple[float, ...] = GRID,
    normalize: bool = True,
    bias: bool = True,
) -> Probe:
    """The probe with the best validation accuracy over ``grid``; ties take the larger l2.

    Args:
        train: features [N, D] and labels [N].
        validation: features [M, D] and labels [M].
        classes: C.
        grid: penalties.
        normalize: see :func:`fit_probe`.
        bias: see :func:`fit_probe`.
    """
    best: tuple[float, Probe] | None = None
    probe: Probe | None = None
    for l2 in sorted(grid, reverse=True):
        probe = fit_probe(*train, classes, l2, probe, normalize, bias)
        score = probe.accuracy(*validation)
        if best is None or score > best[0]:
            best = (score, probe)
    if best is None:
        raise ValueError("grid is empty: give at least one penalty")
    return best[1]


def held_out(labels: Tensor) -> Tensor:
    """[N] bool: a fifth of each class, none of a class with fewer than two; the same each time."""
    held = torch.zeros(len(labels), dtype=torch.bool)
    source = generator("held out")
    for label in torch.unique(labels):
        rows = (labels == label).nonzero().flatten()
        order = rows[torch.randperm(len(rows), generator=source)]
        held[order[: max(1, len(rows) // 5) if len(rows) > 1 else 0]] = True
    return held
