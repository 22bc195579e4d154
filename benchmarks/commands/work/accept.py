"""Makes the checks of ``python -m benchmarks accept``."""

from __future__ import annotations

import argparse
import sys

import torch
from tqdm import tqdm

from avalanche_proxyfda._accelerator import best_device
from benchmarks.accept import (
    environment,
    on_evaluation,
    on_losses,
    on_runner,
    on_times,
    on_training,
)
from benchmarks.accept.check import Check, Setting, outcome_of
from benchmarks.accept.journal import Journal, machine_of
from benchmarks.accept.table import line, table
from benchmarks.execution.policy import check_file
from benchmarks.experiment.numerics import let_cublas_repeat

MODULES = (environment, on_losses, on_training, on_evaluation, on_runner)


def make_checks(args: argparse.Namespace) -> int:
    """Make the checks, and print the table.

    Returns:
        0 if no check failed, else 1.

    Raises:
        ValueError: for an unknown device, or a file that is no report.
        OSError: if the report cannot be read or written.
    """
    setting = Setting(_device(args.device), args.quick)
    if args.device == "auto" and setting.on_cpu:
        print(
            "torch can use no accelerator here, so the CPU is checked; --device cuda says why",
            file=sys.stderr,
        )
    let_cublas_repeat(setting.device)
    checks = _chosen(args.only, args.times)
    check_file(args.out)
    journal = Journal(args.out, machine_of(setting), not args.resume)
    with tqdm(checks, unit="check", mininterval=2) as bar:
        for check in bar:
            bar.set_description(check.name)
            if check.name in journal.outcomes:
                continue
            outcome = outcome_of(check, setting)
            journal.add(outcome)
            if outcome.status == "failed":
                tqdm.write(f"failed: {outcome.name}: {outcome.about}", file=sys.stderr)
    outcomes = [journal.outcomes[check.name] for check in checks]
    print(table(journal.machine, outcomes))
    print(f"\n{line(outcomes)}; the report is {args.out}")
    return int(any(each.status == "failed" for each in outcomes))


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
