"""Whole runs: the embedded stream with every method, a deterministic rerun, several ranks."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from avalanche_proxyfda._accelerator import collectives, device_count
from avalanche_proxyfda.strategies.precision import check_precision
from benchmarks.accept.check import Check, Fault, Setting, Skip
from benchmarks.accept.processes import run_within
from benchmarks.config.recipes import load_recipe
from benchmarks.experiment import measure
from benchmarks.experiment.run import run
from benchmarks.methods.registry import METHODS
from benchmarks.results.agreement import differences
from benchmarks.results.files import read_record
from benchmarks.results.record import Record

RECIPE = Path(__file__).parent.parent / "recipes" / "concepts.yaml"
ROOT = Path(__file__).parent.parent.parent
WHOLE = {"finetune": 0.2, "proxy-fda": 0.5}
"""Methods that learn the whole stream, and their least mean accuracy at the end.

The head of plain fine-tuning begins at random.
"""
LEAST = {"finetune": 0.2}
"""Least mean accuracy after two sets of the stream, learned for one epoch."""
USUAL_LEAST = 0.7
"""Least mean accuracy of the other methods there, whose heads begin as probes."""
SMALL = {"stream.sets": ["colours", "shapes"], "panel.sets": ["greek"], "train.epochs": 1}
TIMES = 3
"""Times the tolerance of two machines that a device and the CPU, or ranks, may differ by."""
LIMIT = 150
"""Seconds of the ranks; several times their usual duration."""


def checks() -> list[Check]:
    """Return the checks of this group."""
    made = [Check(f"runner: {method}", partial(_run, method)) for method in METHODS]
    return [
        *made,
        Check("runner: fda, on the CPU", _as_on_the_cpu),
        Check("runner: fda, for speed", _for_speed),
        Check("runner: the same bits again", _again),
        Check("ranks: torchrun", _ranks),
    ]


def _record(method: str, device: torch.device, small: bool = True, **more: Any) -> Record:
    overrides = {"where.device": str(device), **(SMALL if small else {}), **more}
    recipe = load_recipe(RECIPE, overrides)
    return run(recipe.of_method(method, overrides).config)


def _run(method: str, setting: Setting) -> str:
    if setting.quick and method not in ("finetune", "proxy-fda"):
        raise Skip("left out by --quick")
    small = setting.quick or method not in WHOLE
    least = LEAST.get(method, USUAL_LEAST) if small else WHOLE[method]
    return _last(_record(method, setting.device, small), least)


def _last(record: Record, least: float) -> str:
    """Return the mean accuracy after the last experience, in words.

    Raises:
        Fault: if the accuracy is below ``least``.
    """
    assert record.outcome is not None
    row = [value for value in record.outcome.accuracy[-1] if value is not None]
    mean = sum(row) / len(row)
    if not least <= mean <= 1:
        raise Fault(f"the accuracy at the end is {mean:.1%}, at least {least:.0%} is right")
    return f"{mean:.1%} at the end"


def _apart(one: Record, other: Record, names: str) -> str:
    """Compare the measurements of two runs, and return the largest difference in words.

    Raises:
        Fault: if a measurement differs by more than :data:`TIMES` its tolerance.
    """
    found = [each for each in differences(one, other) if each.path.startswith("outcome")]
    for each in found:
        if each.distance > TIMES * each.allowed:
            raise Fault(f"{names}: {each.path} is {each.first} and {each.second}")
    worst = max((each.size for each in found), default=0.0)
    return f"{names}: at most {worst:.2f} times the tolerance of two machines"


def _as_on_the_cpu(setting: Setting) -> str:
    """Compare a run on the device with one on the CPU."""
    if setting.on_cpu:
        raise Skip("there is no accelerator to compare the CPU with")
    host, ours = (_record("fda", device) for device in (torch.device("cpu"), setting.device))
    return _apart(ours, host, "device and CPU")


def _for_speed(setting: Setting) -> str:
    """Train with the settings of large models: bf16, TF32, channels-last, loader processes."""
    try:
        check_precision("bf16", setting.device)
    except ValueError as error:
        raise Skip(f"the device has no bf16: {error}") from error
    keys = {"precision": "bf16", "tf32": True, "channels_last": True, "workers": 2}
    fast = {f"train.{key}": value for key, value in keys.items()}
    return _last(_record("fda", setting.device, **fast), USUAL_LEAST)


def _again(setting: Setting) -> str:
    """Run twice with deterministic algorithms; nothing of the first run is kept for the second."""
    records = []
    for _ in range(2):
        measure.forget_pretrained()
        records.append(_record("proxy-fda", setting.device, **{"train.deterministic": True}))
    differing = list(differences(*records))
    if differing:
        raise Fault(f"{len(differing)} values differ between two equal runs: {differing[0]}")
    return "two runs with train.deterministic: every number equal"


def _ranks(setting: Setting) -> str:
    """Train with as many ranks as there are accelerators, two on a CPU, and with one process."""
    count = 2 if setting.on_cpu else device_count(setting.device)
    single = _record("fda", torch.device(setting.device.type))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={count}", "-m", "benchmarks", "run"]
        command += ["--config", str(RECIPE), "--methods", "fda", "--out", folder, "--set"]
        small = "stream.sets=[colours,shapes] panel.sets=[greek] train.epochs=1"
        command += [*small.split(), f"where.device={setting.device.type}"]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        own = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        status, said = run_within(command, folder, own, LIMIT)
        if status:
            raise Fault(f"status {status}: {' '.join(said.split())[-400:]}")
        records = [read_record(path) for path in sorted(Path(folder).glob("*.json"))]
    if len(records) != 1:
        raise Fault(f"{len(records)} records were written, not 1")
    about = f"{count} ranks over {collectives(setting.device)}, {_last(records[0], USUAL_LEAST)}"
    return f"{about}; {_apart(records[0], single, 'ranks and one process')}"
