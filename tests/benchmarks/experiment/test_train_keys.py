"""``train.precision`` and ``train.accumulate`` in a run and in its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.config import complaint, read
from benchmarks.experiment import run as run_module
from benchmarks.experiment.loop import ObservedEfficientNaive, ObservedNaive
from benchmarks.experiment.run import run
from benchmarks.experiment.training import StepTimer
from benchmarks.results.files import read_record, write_record
from tests.benchmarks.miniature import config


def learn(data: Path, patch: pytest.MonkeyPatch, **train: Any) -> tuple[Any, set[type]]:
    kinds: set[type] = set()

    class Look(StepTimer):
        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            kinds.add(type(strategy))

    patch.setattr(run_module, "StepTimer", Look)
    made = config(
        data,
        method="fda",
        strength=1.0,
        panel={"sets": []},
        stream={"kind": "sequence", "sets": ["folder:photo"]},
        options={"num_neighbors": 8, **train.pop("options", {})},
        train={"lr": 1e-4, "batch": 12, "eval_batch": 50, "batches": "shuffled", **train},
    )
    return run(made), kinds


def test_the_default_is_avalanches_own_strategy(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, kinds = learn(data, monkeypatch)
    assert kinds == {ObservedNaive} and record.how.machine.dtype == "float32"
    assert record.cost.student_forwards == record.cost.steps
    assert record.cost.loader_seconds_per_step > 0


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", "bfloat16"), ("fp16", "float16")])
def test_other_choices_reach_the_strategy_and_the_record(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, dtype: str
) -> None:
    record, kinds = learn(
        data,
        monkeypatch,
        precision=precision,
        accumulate=2,
        options={"graph_from": "accumulated"},
    )
    assert kinds == {ObservedEfficientNaive} and record.how.machine.dtype == dtype
    assert record.config["train"]["accumulate"] == 2
    steps = record.cost.steps  # forwards with gradient: micro-batches
    assert steps % 2 == 0 and record.cost.student_forwards == 2 * steps
    assert record.cost.teacher_forwards == steps
    (terms,) = record.outcome.loss_terms
    assert terms["FDA_alignment"][0] > 0
    write_record(tmp_path / "a.json", record)
    assert read_record(tmp_path / "a.json") == record


@pytest.mark.parametrize(
    "train", [{"precision": "half"}, {"accumulate": 0}, {"accumulate": 1.5}], ids=str
)
def test_other_values_are_refused(train: dict[str, Any]) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError) as told:
        read({"train": train})
    assert complaint(told.value).startswith(f"train.{next(iter(train))}=")
