"""The stream and the panel are built once a process, for all runs that share them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.config import Config, changed
from benchmarks.execution.job import Job
from benchmarks.execution.plan import checked_steps
from benchmarks.experiment import data as data_module
from benchmarks.experiment.prepare import prepare
from benchmarks.experiment.run import run
from tests.benchmarks.miniature import config

Counts = dict[str, int]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """How often streams and panels were built; the process keeps none of other tests."""
    counts: Counts = {"load_stream": 0, "load_panel": 0}

    def counted(name: str, load: Callable[..., Any]) -> Callable[..., Any]:
        def loads(*words: Any) -> Any:
            counts[name] += 1
            return load(*words)

        return loads

    for name in counts:
        monkeypatch.setattr(data_module, name, counted(name, getattr(data_module, name)))
    monkeypatch.setattr(data_module, "_KEPT", OrderedDict())
    return counts


def small(data: Path, *sets: str, **changes: Any) -> Config:
    content: dict[str, Any] = {
        "stream": {"kind": "sequence", "sets": [f"folder:{name}" for name in sets]},
        "panel": {"sets": ["folder:grey"]},
        "train": {"lr": 1e-4, "batch": 12, "eval_batch": 50},
        **changes,
    }
    return config(data, **content)


def test_planning_and_runs_of_one_stream_build_it_once(
    data: Path, tmp_path: Path, built: Counts
) -> None:
    first = small(data, "stripes")
    second = changed(first, method="l2sp", strength=0.5, seed=1)
    checked_steps([Job(first, tmp_path), Job(second, tmp_path)])
    records = [run(first), run(second)]
    assert built == {"load_stream": 1, "load_panel": 1}
    assert [record.status for record in records] == ["finished"] * 2
    again = run(first)  # after another run on the same stream
    assert again.reproducible() == records[0].reproducible()
    run(small(data, "photo"))
    assert built == {"load_stream": 2, "load_panel": 2}


def test_a_kept_stream_gives_the_numbers_of_a_new_one(
    data: Path, monkeypatch: pytest.MonkeyPatch, built: Counts
) -> None:
    train = {"lr": 1e-4, "batch": 12, "eval_batch": 50, "augment": "flip-crop"}
    made = small(data, "stripes", train=train)
    run(changed(made, seed=5))
    kept = run(made)
    assert built["load_stream"] == 1
    monkeypatch.setattr(data_module, "_KEPT", OrderedDict())
    assert run(made).reproducible() == kept.reproducible()
    assert built["load_stream"] == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"stream": {"kind": "sequence", "sets": ["folder:stripes"], "validation_seed": 1}},
        {"panel": {"sets": ["folder:grey"], "test": 5}},
        {"train": {"lr": 1e-4, "batch": 12, "augment": "crop"}},
        {"backbone": {"name": "timm:mobilenetv2_035", "weights": "random", "image_size": 32}},
        {"where": {"data": "elsewhere", "device": "cpu"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_data_depend_on_builds_them_again(
    data: Path, built: Counts, changes: dict[str, Any]
) -> None:
    if "where" in changes:  # the same folder by another path
        changes = {"where": {"data": f"{data}/../{data.name}", "device": "cpu"}}
    prepare(small(data, "stripes"))
    prepare(small(data, "stripes", **changes))
    assert built == {"load_stream": 2, "load_panel": 2}


def test_only_the_last_few_are_kept(data: Path, built: Counts) -> None:
    def shares(count: int) -> list[Config]:
        stream = {"kind": "sequence", "sets": ["folder:stripes"]}
        return [small(data, stream={**stream, "validation_seed": k}) for k in range(count)]

    first, *others = shares(data_module.MOST_KEPT + 1)
    prepare(first)
    for other in others[:-1]:
        prepare(other)
    prepare(first)  # used last, so the second is the oldest
    assert built["load_stream"] == data_module.MOST_KEPT
    prepare(others[-1])
    prepare(first)
    assert built["load_stream"] == data_module.MOST_KEPT + 1
    prepare(others[0])
    assert built["load_stream"] == data_module.MOST_KEPT + 2
