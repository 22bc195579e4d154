"""Center against loops, and its edges."""

from __future__ import annotations

import pytest
import torch
from avalanche_proxyfda.losses.center import CenterLoss

from tests.losses.common import features
from tests.reference.center import center as reference


def test_value_and_gradient_equal_the_loops() -> None:
    student, teacher = features(6, 4).requires_grad_(), features(6, 4, 1)
    value, expected = CenterLoss()(student, teacher), reference(student, teacher)
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
    ours, theirs = (torch.autograd.grad(v, student)[0] for v in (value, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_zero_where_the_means_agree() -> None:
    student = features(6, 4)
    assert float(CenterLoss()(student, student.flip(0))) == pytest.approx(0, abs=1e-24)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="width"):
        CenterLoss()(features(3, 4), features(3, 5))
