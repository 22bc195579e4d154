"""SmoothedCrossEntropy against the loop and torch, with absent classes, in both modes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from avalanche_proxyfda.losses.smoothed import SmoothedCrossEntropy
from avalanche_proxyfda.models import UnitHeads
from tests.losses.common import features
from tests.reference import smoothed as reference

LABELS = [1, 0, 2, 4]


@pytest.mark.parametrize("absent", [-1000.0, -1e4, -torch.inf])
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 0.9])
def test_value_and_gradient_equal_the_loop(smoothing: float, absent: float) -> None:
    logits, classes = features(4, 5).requires_grad_(), [2, 3, 4, 5]
    present = torch.arange(5) < torch.tensor(classes).unsqueeze(1)
    value = SmoothedCrossEntropy(smoothing)(
        logits.masked_fill(~present, absent), torch.tensor(LABELS)
    )
    expected = reference.smoothed(logits, LABELS, classes, smoothing)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-14)
    ours, theirs = (torch.autograd.grad(v, logits)[0] for v in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


def test_gradcheck() -> None:
    labels = torch.tensor(LABELS)
    assert torch.autograd.gradcheck(
        lambda x: SmoothedCrossEntropy(0.3)(x, labels), features(4, 5).requires_grad_()
    )


def test_torchs_own_where_all_classes_are_present() -> None:
    logits, labels = features(4, 5), torch.tensor(LABELS)
    ours, torchs = SmoothedCrossEntropy(0.2), nn.CrossEntropyLoss(label_smoothing=0.2)
    torch.testing.assert_close(ours(logits, labels), torchs(logits, labels))
    plain = nn.CrossEntropyLoss()(logits, labels)
    assert ours.eval()(logits, labels) == plain == SmoothedCrossEntropy(0)(logits, labels)
    assert ours.train()(logits, labels) != plain and ours.reduction == "mean"


def test_a_batch_of_several_tasks_is_smoothed_over_the_classes_of_each() -> None:
    heads, rows = UnitHeads(8, [2, 5]).double(), features(2, 8)
    loss, labels = SmoothedCrossEntropy(0.5), torch.tensor([1, 4])
    mixed = loss(heads(rows, torch.tensor([0, 1])), labels)
    apart = [loss(heads(rows[k : k + 1], k), labels[k : k + 1]) for k in range(2)]
    torch.testing.assert_close(mixed, (apart[0] + apart[1]) / 2)


def test_half_precision_is_summed_in_full_precision() -> None:
    logits, labels = features(4, 5).bfloat16(), torch.tensor(LABELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = SmoothedCrossEntropy(0.2)(logits, labels)
    assert value.dtype == torch.float32
    assert value == SmoothedCrossEntropy(0.2)(logits.float(), labels)


@pytest.mark.parametrize(
    ("smoothing", "error"),
    [(1.0, ValueError), (-0.1, ValueError), (float("nan"), ValueError), ("a", TypeError)],
)
def test_other_values_are_refused(smoothing: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="smoothing="):
        SmoothedCrossEntropy(smoothing)


def test_low_logits_alone_are_of_no_absent_class() -> None:
    low = (torch.full((2, 3), -1500.0) + 10 * torch.eye(2, 3)).requires_grad_()
    labels = torch.tensor([0, 1])
    value = SmoothedCrossEntropy(0.1)(low, labels)
    torch.testing.assert_close(value, nn.CrossEntropyLoss(label_smoothing=0.1)(low, labels))
    (slope,) = torch.autograd.grad(value, low)
    assert value.item() == pytest.approx(0.667, abs=1e-3) and slope.isfinite().all()
    absent = torch.tensor([[2.0, 0.0, -1e4]])
    beside = SmoothedCrossEntropy(0.1)(torch.cat((low, absent)), torch.tensor([0, 1, 0]))
    alone = SmoothedCrossEntropy(0.1)(absent, labels[:1])
    torch.testing.assert_close(beside, (2 * value + alone) / 3)
