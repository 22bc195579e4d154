"""kill -9 at any moment: the run goes on, and ends in the same weights, metrics and record."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from benchmarks.config import plain
from benchmarks.methods.plugins import arguments_of
from benchmarks.methods.registry import METHODS
from benchmarks.results.files import read_record
from benchmarks.results.record import Record
from tests.benchmarks.execution.killing import MOMENTS, run_once
from tests.benchmarks.miniature import config

Live = Callable[..., int | None]
STRENGTHS = {"wise-ft": 0.5, "averaging": 0.9}


@pytest.fixture(scope="module")
def live(forks: Any) -> Live:
    """Lets a run live once, in a process that has imported everything already."""

    def once(made: Any, folder: Path, moment: str = "", number: int = 0) -> int | None:
        process = forks.Process(target=run_once, args=(plain(made), str(folder), moment, number))
        process.start()
        process.join(200)
        if process.is_alive():
            process.kill()
            pytest.fail(f"{made.about} hangs after {moment} {number}")
        code: int | None = process.exitcode
        return code

    return once


def small(data: Path, method: str, **changes: Any) -> Any:
    """Two data sets, a head each, random views, a checkpoint after every second step."""
    options = {"num_neighbors": 4} if "num_neighbors" in arguments_of(method) else {}
    strength = None if METHODS[method].knob is None else STRENGTHS.get(method, 1.0)
    train = {"lr": 1e-4, "batch": 12, "eval_batch": 50, "epochs": 2, "augment": "flip-crop"}
    where = {
        "data": str(data),
        "device": "cpu",
        "keep_weights": True,
        "checkpoint_minutes": None,
        "checkpoint_steps": 2,
    }
    return config(
        data,
        method=method,
        strength=strength,
        options=options,
        stream={"kind": "sequence", "sets": ["folder:stripes", "folder:grey"]},
        panel={"sets": ["folder:photo"]},
        train={**train, **changes},
        where=where,
    )


def outcome(folder: Path) -> tuple[Record, dict[str, Any]]:
    """The one record of a folder, and what of it must come again."""
    (file,) = folder.glob("*.json")
    record = read_record(file)
    assert record.cost is not None
    # the teacher is asked about a few samples once more by each process that goes on
    counts = (record.cost.steps, record.cost.samples, record.cost.student_forwards)
    weights = list(record.artefacts.values())
    assert len(weights) == 2  # the model and its description
    return record, {**record.reproducible(), "counts": counts, "weights": weights}


def check(live: Live, made: Any, whole: Path, broken: Path, seed: int, kills: int) -> list[str]:
    """Kill a run ``kills`` times, as long as it is not done; returns the moments."""
    picks, struck = random.Random(f"{seed} {made.method}"), []
    code: int | None = None
    for _ in range(kills):
        moment = picks.choice(list(MOMENTS))
        number = picks.randint(1, MOMENTS[moment])
        code = live(made, broken, moment, number)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        struck.append(f"{moment} {number}")
        if list(broken.glob("*.json")):  # between the record's rename and the sync of its folder
            break
    if code != 0:
        assert live(made, broken) == 0
    (_, expected), (_, found) = outcome(whole), outcome(broken)
    assert found == expected, struck
    assert not list(broken.rglob("checkpoint*")), "a checkpoint outlives its record"
    assert not list(broken.rglob("*.tmp"))
    return struck


@pytest.mark.parametrize("method", ["proxy-fda", "digrap"])
def test_a_run_killed_at_random_moments_ends_the_same(
    data: Path, tmp_path: Path, live: Live, method: str
) -> None:
    made = small(data, method)
    assert live(made, tmp_path / "whole") == 0
    assert check(live, made, tmp_path / "whole", tmp_path / "broken", 3, 3)
    record, _ = outcome(tmp_path / "broken")
    assert record.resumed_from is not None and "checkpoint.safetensors: " in record.resumed_from


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_killed_twenty_times_ends_the_same(
    data: Path, tmp_path: Path, live: Live, method: str
) -> None:
    """Twenty kills, in as many runs as it takes."""
    made, left = small(data, method), 20
    assert live(made, tmp_path / "whole") == 0
    for attempt in count():  # the moments that are drawn may all lie after the run's end
        if left <= 0:
            break
        broken = tmp_path / f"{attempt}"
        left -= len(check(live, made, tmp_path / "whole", broken, attempt, left))
