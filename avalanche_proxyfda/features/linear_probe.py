"""Linear probes on frozen features: multinomial logistic regression, deterministic.

The device of the features computes in float64, or the CPU for a device without float64. The
minimum that an accelerator finds is that of the CPU except for the tolerance of the solver.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from avalanche_proxyfda._checks import check_amount, check_count
from avalanche_proxyfda._float64 import float64_device, rows_at_once
from avalanche_proxyfda._labelled import (
    check_features,
    check_finite,
    check_labels,
    check_pair,
    check_range,
    check_same_width,
)
from avalanche_proxyfda._random import generator
from avalanche_proxyfda._tensors import unit_rows
from avalanche_proxyfda.features.probe_loss import PartsProbeLoss, Slopes, WholeProbeLoss

GRID = (1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True)
class Probe:
    """A fitted probe in float64.

    Attributes:
        weight: [C, D] weights of the classes.
        bias: [C] biases of the classes.
        l2: the penalty of the fit.
        normalize: True when the probe normalises features to unit norm, False when it takes
            them unchanged.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics import Probe
        >>> probe = Probe(weight=torch.eye(2).double(), bias=torch.zeros(2).double(), l2=1e-3)
        >>> features = torch.tensor([[3.0, 4.0], [2.0, 0.0]])
        >>> probe.logits(features)  # of the rows with unit norm
        tensor([[0.6000, 0.8000],
                [1.0000, 0.0000]], dtype=torch.float64)
        >>> probe.accuracy(features, torch.tensor([1, 1]))
        0.5
    """

    weight: Tensor
    bias: Tensor
    l2: float
    normalize: bool = True

    def logits(self, features: Tensor) -> Tensor:
        """Logits [N, C] for features [N, D] of any norm.

        Raises:
            TypeError, ValueError: when ``features`` are no tensor [N, D] of the probe's D.
        """
        check_features("features", features, 0)
        check_same_width("features", features, "the probe's weight", self.weight.shape[1])
        rows = features.to(self.weight.device).double()
        return (unit_rows(rows) if self.normalize else rows) @ self.weight.T + self.bias

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Share of the labels [N] that the probe predicts from features [N, D].

        Raises:
            TypeError, ValueError: when ``features`` are no tensor [N, D] of the probe's D with
                N >= 1, or ``labels`` are not N integers.
        """
        check_features("features", features)
        check_labels("labels", labels, "features", len(features))
        if self.weight.device.type == "cpu":
            return float((self.logits(features).argmax(dim=1) == labels.cpu()).double().mean())
        return int(self.hits(features, labels)) / len(features)

    def hits(self, features: Tensor, labels: Tensor) -> Tensor:
        """Number of right predictions, int64 []; nothing waits for the probe's device.

        Args:
            features: [N, D]; a part of them at a time is in float64.
            labels: [N].
        """
        device = self.weight.device
        size = rows_at_once(8 * (4 * features.shape[1] + 2 * len(self.weight)))
        hits = torch.zeros((), dtype=torch.int64, device=device)
        for rows, right in zip(
            torch.split(features, size), torch.split(labels.to(device), size), strict=True
        ):
            hits += (self.logits(rows).argmax(dim=1) == right).sum()
        return hits


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

    The problem is convex: ``start`` saves steps and does not change the minimum. On an
    accelerator, temporary values take 256 MiB, see
    :class:`~avalanche_proxyfda.features.probe_loss.PartsProbeLoss`. The solver waits for the
    device to compare losses and slopes, whatever the number of parts.

    Args:
        features: [N, D] features.
        labels: [N] integers in [0, ``classes``).
        classes: C, at least 2.
        l2: penalty on the weight (not the bias); positive, so that a minimum exists.
        start: a probe of the same features with another penalty, to start from.
        normalize: L2-normalise each row. Otherwise the fit divides all rows by their root mean
            square norm, so that ``l2`` means the same, and the returned probe takes rows
            unchanged: its weight can be the weight of a linear layer.
        bias: fits a bias; otherwise the bias is zero.

    Raises:
        TypeError: when features or labels are no tensors, ``classes`` is no int, or ``l2`` is no
            number.
        ValueError: when there are fewer than two classes or no samples, shapes do not fit, a label
            is out of range or no integer, the penalty is not positive, a feature is not finite,
            or ``start`` has another shape.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics import fit_probe
        >>> features = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> probe = fit_probe(features, labels, classes=2, l2=1e-3)
        >>> probe.weight.shape, probe.accuracy(features, labels)
        (torch.Size([2, 2]), 1.0)
        >>> shorter = fit_probe(features, labels, classes=2, l2=1e-1)
        >>> bool(shorter.weight.norm() < probe.weight.norm())
        True
    """
    check_features("features", features)
    check_labels("labels", labels, "features", len(features))
    check_range("labels", labels, check_count("classes", classes, 2))
    if check_amount("l2", l2) == 0:
        raise ValueError("l2=0 has no minimum on separable features; give a small penalty")
    shape = (classes, features.shape[1])
    if start is not None and tuple(start.weight.shape) != shape:
        raise ValueError(
            f"start has a weight of shape {tuple(start.weight.shape)}; expected {shape}: start "
            "from a probe of the same features and classes"
        )
    features = features.detach().to(float64_device(features.device))
    labels = labels.to(features.device).long()
    check_finite("features", features)
    kind = WholeProbeLoss if features.device.type == "cpu" else PartsProbeLoss
    loss = kind(features, labels, classes, l2, normalize)
    zeros = features.new_zeros(classes, features.shape[1], dtype=torch.float64)
    weight = zeros if start is None else start.weight.to(zeros.device) * loss.scale
    offset = zeros[:, 0] if start is None else start.bias.to(zeros.device)
    weight, offset = _minimum(loss, weight.detach().clone(), offset.detach().clone(), bias)
    return Probe(weight / loss.scale, offset, l2, normalize)


def _minimum(
    loss_of: Callable[[Tensor, Tensor], Slopes], weight: Tensor, offset: Tensor, bias: bool
) -> tuple[Tensor, Tensor]:
    """Weight and bias of the minimum; the search starts from ``weight`` and ``offset``."""
    learned = [weight, offset] if bias else [weight]
    optimizer = torch.optim.LBFGS(
        learned,
        max_iter=300,
        tolerance_grad=1e-5,
        tolerance_change=1e-9,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        loss, weight.grad, offset.grad = loss_of(weight, offset)
        return loss.item()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    slope = max(float(x.grad.abs().max()) for x in learned if x.grad is not None)
    if slope > 1e-3:
        warnings.warn(f"the probe did not converge: gradient {slope:.1e}", stacklevel=3)
    return weight, offset


def select_probe(
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    classes: int,
    grid: tuple[float, ...] = GRID,
    normalize: bool = True,
    bias: bool = True,
) -> Probe:
    """The probe with the best validation accuracy over ``grid``; the larger l2 wins a tie.

    Args:
        train: features [N, D] and labels [N], integers in [0, ``classes``).
        validation: features [M, D] and labels [M], as those of ``train``.
        classes: C, at least 2.
        grid: penalties to choose from.
        normalize: see :func:`fit_probe`.
        bias: see :func:`fit_probe`.

    Raises:
        TypeError, ValueError: when ``grid`` is empty, a set is no pair of tensors with one row a
            label, the sets have features of two widths, or as :func:`fit_probe`.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics import select_probe
        >>> features = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> train, validation = (features[::2], labels[::2]), (features[1::2], labels[1::2])
        >>> probe = select_probe(train, validation, classes=2, grid=(1e-1, 1e-3))
        >>> probe.accuracy(*validation), probe.l2  # both penalties have this accuracy
        (1.0, 0.1)
    """
    check_count("classes", classes, 2)
    for name, pair in (("train", train), ("validation", validation)):
        rows, labels = check_pair(name, pair)
        check_finite(f"{name}[0]", rows)
        check_range(f"{name}[1]", labels, classes)
    check_same_width("validation[0]", validation[0], "train[0]", train[0].shape[1])
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
    """[N] bool: True for a fifth of each class, by a fixed seed; False for a class of one image.

    The result is on the device of ``labels``, and depends on their values alone.
    """
    on_host = labels.cpu()
    held = torch.zeros(len(labels), dtype=torch.bool)
    source = generator("held out")
    for label in torch.unique(on_host):
        rows = (on_host == label).nonzero().flatten()
        order = rows[torch.randperm(len(rows), generator=source)]
        held[order[: max(1, len(rows) // 5) if len(rows) > 1 else 0]] = True
    return held.to(labels.device)
