"""Makes the checks of ``python -m benchmarks accept``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from avalanche_proxyfda._accelerator import best_device
from benchmarks.accept import (
    environment,
    on_caches,
    on_evaluation,
    on_input,
    on_losses,
    on_resume,
    on_runner,
    on_times,
    on_training,
)
from benchmarks.accept.check import Check, Outcome, Setting, outcome_of
from benchmarks.accept.journal import Journal, machine_of
from benchmarks.accept.table import line, table
from benchmarks.execution.policy import check_file
from benchmarks.experiment.numerics import let_cublas_repeat

MODULES = (
    environment,
    on_losses,
    on_training,
    on_caches,
    on_resume,
    on_evaluation,
    on_input,
    on_runner,
)
DRIVERS = ("/dev/nvidiactl", "/dev/kfd")
"""Files of the drivers of NVIDIA's and AMD's accelerators on Linux."""
MOST_STARTS = 2
"""Times that a process may end within a check, before the check counts as failed."""


def make_checks(args: argparse.Namespace) -> int:
    """Make the checks, and print the table.

    Returns:
        0 if no check failed, else 1.

    Raises:
        ValueError: for an unknown device, a device that torch cannot use, or a file that is no
            report.
        OSError: if the report cannot be read or written.
    """
    setting = Setting(_device(args.device), args.quick)
    if args.device == "auto" and setting.on_cpu:
        _expect_no_accelerator()
        print("this machine has no accelerator, so the CPU is checked", file=sys.stderr)
    let_cublas_repeat(setting.device)
    checks = _chosen(args.only, args.times)
    check_file(args.out)
    journal = Journal(args.out, machine_of(setting), not args.resume)
    whole = _make(checks, journal, setting)
    outcomes = [journal.outcomes[check.name] for check in checks if check.name in journal.outcomes]
    print(table(journal.machine, outcomes))
    print(f"\n{line(outcomes)}; the report is {args.out}")
    if not whole:
        print(
            f"{len(checks) - len(outcomes)} checks were not made: the device stopped answering "
            "after the last failed check; the same command goes on in a new process",
            file=sys.stderr,
        )
    return int(not whole or any(each.status == "failed" for each in outcomes))


def _make(checks: list[Check], journal: Journal, setting: Setting) -> bool:
    """Make the checks that have no outcome; return False if the device stops to answer."""
    with tqdm(checks, unit="check", mininterval=2) as bar:
        for check in bar:
            bar.set_description(check.name)
            if check.name in journal.outcomes:
                continue
            if journal.begin(check.name) >= MOST_STARTS:
                about = f"the process ended {MOST_STARTS} times within this check"
                outcome = Outcome(check.name, "failed", f"{about}: a crash, a hang or a time limit")
            else:
                outcome = _interruptible(check, journal, setting)
            journal.add(outcome)
            if outcome.status == "failed":
                tqdm.write(f"failed: {outcome.name}: {outcome.about}", file=sys.stderr)
                if not _answers(setting.device):
                    return False
    return True


def _interruptible(check: Check, journal: Journal, setting: Setting) -> Outcome:
    """Make a check; an interrupt by the user is no failure of it."""
    try:
        return outcome_of(check, setting)
    except KeyboardInterrupt:
        journal.forget(check.name)
        raise


def _answers(device: torch.device) -> bool:
    """Return False after an error that ends all use of an accelerator by this process."""
    try:
        return float(torch.ones(2, device=device).sum()) == 2
    except RuntimeError:
        return False


def _expect_no_accelerator() -> None:
    """Raise ValueError if this machine has a driver, so that torch should find an accelerator."""
    found = [path for path in DRIVERS if Path(path).exists()]
    if found:
        raise ValueError(
            f"this machine has an accelerator ({found[0]}), and torch {torch.__version__} cannot "
            "use it: --device cuda says why; install a torch for its driver, or pass --device cpu "
            "to check the CPU"
        )


def _device(name: str) -> torch.device:
    try:
        device = best_device() if name == "auto" else torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device {name}: torch cannot use it ({' '.join(str(error).split())[:200]})"
        ) from error
    return device


def _chosen(groups: list[str] | None, times: bool) -> list[Check]:
    checks = [check for module in MODULES for check in module.checks()]
    chosen = [check for check in checks if groups is None or check.group in groups]
    return chosen + (on_times.checks() if times else [])
