"""Whole runs: the embedded stream with every method, a deterministic rerun, several ranks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from avalanche_proxyfda._accelerator import collectives, device_count
from benchmarks.accept.check import Check, Fault, Setting, Skip
from benchmarks.config.recipes import load_recipe
from benchmarks.experiment.run import run
from benchmarks.methods.registry import METHODS
from benchmarks.results.agreement import differences
from benchmarks.results.files import read_record
from benchmarks.results.record import Record

RECIPE = Path(__file__).parent.parent / "recipes" / "concepts.yaml"
ROOT = Path(__file__).parent.parent.parent


def checks() -> list[Check]:
    """Return the checks of this group."""
    made = [Check(f"runner: {method}", partial(_run, method)) for method in METHODS]
    return [
        *made,
        Check("runner: the same bits again", _again),
        Check("ranks: torchrun", _ranks),
    ]


WHOLE = ("finetune", "fda", "proxy-fda")
"""Methods that learn the whole stream; the others learn two of its sets, for one epoch."""
_SMALL = {"stream.sets": ["colours", "shapes"], "panel.sets": ["greek"], "train.epochs": 1}


def _overrides(method: str, setting: Setting, **more: Any) -> dict[str, Any]:
    small = setting.quick or method not in WHOLE
    return {"where.device": str(setting.device), **(_SMALL if small else {}), **more}


def _record(method: str, setting: Setting, **more: Any) -> Record:
    overrides = _overrides(method, setting, **more)
    recipe = load_recipe(RECIPE, overrides)
    return run(recipe.of_method(method, overrides).config)


def _run(method: str, setting: Setting) -> str:
    if setting.quick and method not in ("finetune", "proxy-fda"):
        raise Skip("left out by --quick")
    record = _record(method, setting)
    return f"{_last(record):.1%} at the end"


def _last(record: Record) -> float:
    assert record.outcome is not None
    row = [value for value in record.outcome.accuracy[-1] if value is not None]
    if not row or not all(0 <= value <= 1 for value in row):
        raise Fault(f"the last accuracies are {row}")
    return sum(row) / len(row)


def _again(setting: Setting) -> str:
    records = [_record("proxy-fda", setting, **{"train.deterministic": True}) for _ in range(2)]
    differing = list(differences(*records))
    if differing:
        raise Fault(f"{len(differing)} values differ between two equal runs: {differing[0]}")
    return "two runs with train.deterministic: every number equal"


def _ranks(setting: Setting) -> str:
    """Train with as many ranks as there are accelerators; two on a CPU."""
    count = 2 if setting.on_cpu else device_count(setting.device)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={count}", "-m", "benchmarks", "run"]
        command += ["--config", str(RECIPE), "--methods", "fda", "--out", folder, "--set"]
        small = "stream.sets=[colours,shapes] panel.sets=[greek] train.epochs=1"
        command += [*small.split(), f"where.device={setting.device.type}"]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            cwd=folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=600,
            check=False,
        )
        if done.returncode:
            raise Fault(f"status {done.returncode}: {' '.join(done.stderr.split())[-400:]}")
        records = [read_record(path) for path in sorted(Path(folder).glob("*.json"))]
    if len(records) != 1:
        raise Fault(f"{len(records)} records were written, not 1")
    return f"{count} ranks over {collectives(setting.device)}: {_last(records[0]):.1%} at the end"
