"""The acceptance's own checks pass on the second device."""

from __future__ import annotations

import pytest
import torch

from benchmarks.accept import environment, on_evaluation, on_losses, on_training
from benchmarks.accept.check import Check, Setting, outcome_of

GROUPS = (environment, on_losses, on_training, on_evaluation)
CHECKS = [check for module in GROUPS for check in module.checks()]
WITHOUT_FUSED = ("resume: fused", "resume: capturable")  # kernels of real accelerators


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
@pytest.mark.parametrize("check", CHECKS, ids=[check.name for check in CHECKS])
def test_a_check_passes(check: Check, second: torch.device) -> None:
    if check.name.startswith(WITHOUT_FUSED):
        pytest.skip("the second device has no fused optimizer")
    outcome = outcome_of(check, Setting(second, quick=True))
    assert outcome.status != "failed", f"{outcome.about}\n{outcome.trace}"
