"""Runs the checks of this folder on the second device, in a process of their own.

A registered device stays in its process and becomes torch's accelerator there, so the checks
cannot run beside other tests. ``python -m pytest -p tests.second_device.plugin FILE`` runs one
file of checks by hand.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.second_device.build import missing_tool

CHECKS = sorted(Path(__file__).parent.glob("checks_*.py"))


def test_the_checks_pass_on_the_second_device(monkeypatch: pytest.MonkeyPatch) -> None:
    # ninja of the same environment, which need not be activated
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"])
    missing = missing_tool()
    if missing is not None:
        pytest.skip(missing)
    own = ["-p", "tests.second_device.plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *own, *map(str, CHECKS)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
    assert len(CHECKS) > 3 and " passed" in done.stdout


def test_a_command_and_its_children_have_the_device() -> None:
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    if (missing := missing_tool(path)) is not None:
        pytest.skip(missing)
    here = "import torch; print(torch.accelerator.current_accelerator())"
    child = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {here!r}]))"
    done = subprocess.run(
        [sys.executable, "-m", "tests.second_device", "-c", child],
        capture_output=True,
        encoding="utf-8",
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stdout.strip()) == (0, "second"), done.stderr
