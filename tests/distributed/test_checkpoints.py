"""Trainings and runs on two ranks that are broken off, and resume to the same results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed

from avalanche_proxyfda.data.hard_class import bank_by_main
from avalanche_proxyfda.distributed import DistributedTraining, computed_by_main
from benchmarks.config import load_recipe
from benchmarks.execution.executor import execute
from benchmarks.execution.job import Job
from benchmarks.results.record import Record
from tests.checkpoint.training import BreakOff, BrokenOffError, build, train
from tests.distributed.pool import Pool, RankError
from tests.distributed.test_torchrun import recipe
from tests.methods import toy_plugins
from tests.plugins.toys import Growing, Plain, classic, modern

METHODS: dict[str, dict[str, Any]] = {
    "bank": {"fda": {"classes_per_batch": 2, "start": "siglip"}},
    "several": {"lp-ft": {}, "proxy-fda": {"hard_class_batches": False}, "lwf": {}},
}


class BreakOffOnRanks(BreakOff, supports_distributed=True):
    """Raises before one step, on every rank."""


def state_of(folder: Path, methods: Any, growing: bool, step: int | None) -> dict[str, Any]:
    """Train two experiences of three epochs; return the weights, draws and metrics at the end."""
    model, stream = (Growing, modern(2)) if growing else (Plain, classic(2))
    first = [DistributedTraining(), *toy_plugins(methods)]
    made = build(model, *first, BreakOffOnRanks(step), train_epochs=3)
    try:
        train(made, stream, folder, every=1)
    except BrokenOffError:
        return {"steps": made.clock.train_iterations}
    plugins = [p for p in made.plugins if getattr(p, "optimizer", None) is not None]
    metrics = made.evaluator.get_all_metrics().items()
    return {
        "weights": made.model.state_dict(),
        "own": [p.loss.state_dict() for p in plugins],
        # rank 0 saves the hit rates of its own cache
        "metrics": repr([(k, v) for k, v in metrics if "cache_hit_rate" not in k]),
        "draw": torch.rand(2),
    }


def equal(one: Any, other: Any) -> bool:
    """Return True for nested values with the same bits."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@pytest.mark.parametrize(("methods", "growing"), [("bank", False), ("several", True)])
def test_a_training_on_ranks_resumes_at_an_epoch(
    pool: Pool, tmp_path: Path, methods: str, growing: bool
) -> None:
    given = METHODS[methods], growing
    whole = pool.run(state_of, tmp_path / "whole", *given, None)
    step = 13 if growing else 7  # within the second or third epoch of an experience
    broken = pool.run(state_of, tmp_path / "broken", *given, step)
    assert [rank["steps"] for rank in broken] == [step, step]
    (file,) = (tmp_path / "broken").glob("checkpoint.safetensors")
    assert file.stat().st_size > 0
    assert equal(pool.run(state_of, tmp_path / "broken", *given, None), whole)


@contextmanager
def as_rank() -> Iterator[None]:
    """Set what torchrun sets."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    rank = distributed.get_rank()
    values = (rank, rank, distributed.get_world_size())
    os.environ.update({n: str(v) for n, v in zip(names, values, strict=True)})
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def record_of(file: Path, out: Path, steps: int | None) -> Record | int:
    """Run a recipe, or break it off after some steps; return the record."""
    changes = {"where.checkpoint_steps": 1, "where.keep_weights": False}
    job = Job(load_recipe(file, changes).config, out)
    left = [steps]

    def tick(made: int) -> None:
        if left[0] is not None:
            left[0] -= 1
            if left[0] == 0:
                raise BrokenOffError

    with as_rank():
        try:
            return execute(job, tick)
        except BrokenOffError:
            return 0


def test_a_run_on_ranks_resumes_to_the_same_record(pool: Pool, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    file = recipe(tmp_path)
    whole, _ = pool.run(record_of, file, tmp_path / "whole", None)
    # in the second epoch of the second experience
    assert pool.run(record_of, file, tmp_path / "broken", 11) == [0, 0]
    found, _ = pool.run(record_of, file, tmp_path / "broken", None)
    assert found.resumed_from == "checkpoint.safetensors: 1 experiences, and 3 steps of the next"
    assert found.reproducible() == whole.reproducible()
    assert found.outcome.panel and found.outcome == whole.outcome


def fails_on_main() -> str:
    """Return the error that a rank sees when rank 0 cannot compute."""

    def compute() -> int:
        raise ValueError("no such image")

    try:
        computed_by_main(compute)
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def bank_of_rank() -> tuple[Tensor, int]:
    """Return a rank's feature bank, and how often the rank computed it."""
    calls = []

    def batches() -> list[Tensor]:
        calls.append(1)
        return [torch.arange(12.0).view(4, 3) + 1]

    return bank_by_main(batches, torch.device("cpu")).student, len(calls)


def test_a_bank_is_computed_once_for_all_ranks(pool: Pool) -> None:
    single, _ = bank_of_rank()
    for rank, (rows, calls) in enumerate(pool.run(bank_of_rank)):
        assert torch.equal(rows, single) and calls == (rank == 0)


def test_a_value_of_rank_0_reaches_all_and_so_does_its_error(pool: Pool) -> None:
    assert computed_by_main(lambda: 3) == 3
    main, other = pool.run(fails_on_main)
    assert main == "ValueError: no such image"
    assert other.startswith("RuntimeError: rank 0 failed") and other.endswith(main)


def test_another_number_of_ranks_is_refused(pool: Pool, tmp_path: Path) -> None:
    pool.run(state_of, tmp_path, METHODS["bank"], False, 7)
    with pytest.raises(RankError, match=r"ranks: 2 there, 3 here"):
        pool.run(state_of, tmp_path, METHODS["bank"], False, None, ranks=3)
