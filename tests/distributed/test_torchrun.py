"""``torchrun -m benchmarks run`` against the run of one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from benchmarks.__main__ import main
from benchmarks.config import load_recipe
from benchmarks.execution.executor import execute
from benchmarks.execution.failure import RunFailedError
from benchmarks.execution.job import Job
from benchmarks.execution.settle import Settler
from benchmarks.execution.torchrun import TorchrunExecutor
from benchmarks.results.files import read_record
from tests.benchmarks.miniature import write_folder

ROOT = Path(__file__).parents[2]


def recipe(root: Path) -> Path:
    for seed, name in enumerate(("stripes", "bands")):
        write_folder(root / name, ["one", "two", "three"], (32, 32), "RGB", seed)
    content = {
        "stream": {"kind": "sequence", "sets": ["folder:stripes", "folder:bands"]},
        "backbone": {"name": "tiny-clip"},
        "method": "fda",
        "strength": 1.0,
        "options": {"num_neighbors": 4},
        "head": {"kind": "probe", "l2": 1e-3},
        "train": {"lr": 1e-4, "batch": 15, "epochs": 2, "eval_batch": 7},
        "panel": {"sets": ["colours"], "train": 20, "test": 20},
        "where": {"data": str(root), "device": "cpu", "keep_weights": True},
    }
    file = root / "mini.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


def same(found: Any, expected: Any) -> None:
    """Nested results agree to rounding."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            same(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            same(a, b)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    else:
        assert found == expected


def test_a_run_on_two_ranks_is_the_run_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    file = recipe(tmp_path)
    single = execute(Job(load_recipe(file).config, tmp_path / "single"))
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "benchmarks"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "run", "--config", file, "--out", tmp_path / "spread"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1 run, ") == 1 and done.stdout.count("| fda | 1 |") == 1
    (found,) = (tmp_path / "spread").glob("*.json")
    spread = read_record(found)
    kept = sorted(f.name for f in found.with_suffix("").iterdir())
    assert kept == ["model.json", "model.safetensors"]
    assert (single.how.machine.ranks, spread.how.machine.ranks) == (1, 2)
    assert single.run_id == spread.run_id and single.stream == spread.stream
    assert single.outcome is not None and spread.outcome is not None
    assert single.cost is not None and spread.cost is not None
    for part in ("accuracy", "validation_learnt", "avalanche_forgetting", "loss_terms"):
        same(getattr(spread.outcome, part), getattr(single.outcome, part))
    for one, other in zip(spread.outcome.panel, single.outcome.panel, strict=True):
        same(one.linear_probe, other.linear_probe)
        same(one.drift, other.drift)
    for name in ("steps", "samples", "teacher_forwards", "parameters_trained"):
        assert getattr(spread.cost, name) == getattr(single.cost, name)
    weights = [load_file(f) for f in tmp_path.rglob("model.safetensors")]
    assert len(weights) == 2
    for name, value in weights[0].items():
        gap = torch.linalg.vector_norm(weights[1][name] - value)
        assert gap <= 1e-3 * torch.linalg.vector_norm(value), name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--config", "FILE", "--jobs", "2"), "all ranks work on one run"),
        (("run", "--config", "FILE", "--set", "where.device=cuda:1"), "its own device"),
        (("run", "--config", "FILE", "--scan"), "run --scan cannot be started by torchrun"),
        (("demo",), "demo cannot be started by torchrun"),
    ],
)
def test_what_torchrun_cannot_start_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    file = recipe(tmp_path)
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    words = tuple(str(file) if word == "FILE" else word for word in words)
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    assert main() == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("rank", ["0", "1"])
def test_an_error_ends_the_rank_and_rank_0_records_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    """The other ranks would wait without an end; torchrun stops them when one process ends."""
    for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    config = load_recipe(recipe(tmp_path), {"stream.sets": ["folder:nowhere"]}).config
    job = Job(config, tmp_path / "out")
    with pytest.raises(RunFailedError, match="nowhere"):
        TorchrunExecutor().run([job, job], Settler(), lambda _: None)
    if rank == "0":
        left = job.record()
        assert left is not None and left.status == "failed" and left.how.machine.ranks == 2
    else:
        assert not job.file.exists()
