"""The acceptance's own checks pass on the second device."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch

from avalanche_proxyfda import FDALoss
from benchmarks.accept import (
    environment,
    on_caches,
    on_evaluation,
    on_input,
    on_losses,
    on_resume,
    on_times,
    on_training,
)
from benchmarks.accept.check import Check, Setting, outcome_of

GROUPS = (environment, on_losses, on_training, on_caches, on_resume, on_evaluation, on_input)
IN_A_NEW_PROCESS = {"resume: a killed process"}
"""Checks that start a process, which lacks the device of this one."""
MADE = [check for module in GROUPS for check in module.checks()]
CHECKS = [check for check in MADE if check.name not in IN_A_NEW_PROCESS]


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


@contextmanager
def refused(device: torch.device) -> Iterator[None]:
    """Stand in for CUDA's refusal of waits."""
    torch.ops.second_device.refuse_waits(True)
    try:
        yield
    finally:
        torch.ops.second_device.refuse_waits(False)


@pytest.mark.parametrize("waits", [False, True])
def test_a_step_that_waits_fails(
    waits: bool, second: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_training, "can_refuse_waits", lambda device: True)
    monkeypatch.setattr(on_training, "waits_refused", refused)
    if waits:
        right = FDALoss.forward

        def reading(self: FDALoss, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
            value = right(self, student, teacher)
            assert float(value) > 0
            return value

        monkeypatch.setattr(FDALoss, "forward", reading)
    outcome = outcome_of(
        Check("training: one", partial(on_training._waits, "fda")), Setting(second, quick=True)
    )
    assert outcome.status == ("failed" if waits else "passed"), f"{outcome.about}\n{outcome.trace}"
    if not waits:
        assert outcome.about == "8 steps each in float32, bf16"
