"""The acceptance's own checks pass on the second device."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch

from benchmarks.accept import environment, on_evaluation, on_losses, on_times, on_training
from benchmarks.accept.check import Check, Setting, outcome_of

GROUPS = (environment, on_losses, on_training, on_evaluation)
CHECKS = [check for module in GROUPS for check in module.checks()]


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
@pytest.mark.parametrize("check", CHECKS, ids=[check.name for check in CHECKS])
def test_a_check_passes(check: Check, second: torch.device) -> None:
    outcome = outcome_of(check, Setting(second, quick=True))
    assert outcome.status != "failed", f"{outcome.about}\n{outcome.trace}"


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_a_step_is_timed_with_and_without_its_loading(
    second: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_times, "_STEPS", 2)
    outcome = outcome_of(
        Check("times: one", partial(on_times._step, "tiny-clip", 32, "fda, cached")),
        Setting(second),
    )
    assert outcome.status == "passed", f"{outcome.about}\n{outcome.trace}"
    found = re.match(r"(.+) ms a step, .+; (.+) ms with the loader, \d workers", outcome.about)
    assert found is not None and min(float(found[1]), float(found[2])) > 0
