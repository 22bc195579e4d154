"""Runs with companions: their terms are added, and one teacher serves all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.experiment.run import run
from benchmarks.results.files import read_record, write_record
from tests.benchmarks.miniature import config


def learn(data: Path, **settings: Any) -> Any:
    return run(
        config(
            data,
            method="soft-fda",
            strength=1.0,
            panel={"sets": []},
            stream={"kind": "sequence", "sets": ["folder:photo", "folder:sketch"]},
            train={"lr": 1e-3, "batch": 12, "eval_batch": 50, "batches": "shuffled"},
            where={"data": str(data), "device": "cpu", "teacher_cache": "off"},
            **settings,
        )
    )


def test_a_companion_adds_its_term_and_no_forward(data: Path, tmp_path: Path) -> None:
    alone, without, along = (
        learn(data, companions=companions) for companions in ({}, {"ldifs": 0}, {"ldifs": 1e4})
    )
    assert alone.outcome.accuracy == without.outcome.accuracy
    terms: list[Any] = [record.outcome.loss_terms[1] for record in (alone, without, along)]
    assert terms[0]["SoftFDA_alignment"] == terms[1]["SoftFDA_alignment"]
    # a strong companion holds features: its own term is smaller than without its gradient
    assert terms[2]["LDIFS_distance"][-1] < 0.5 * terms[1]["LDIFS_distance"][-1]
    for record in (alone, without, along):
        cost = record.cost
        assert cost.student_forwards == cost.teacher_forwards == cost.steps
    write_record(tmp_path / "a.json", along)
    stored = read_record(tmp_path / "a.json")
    assert stored == along and stored.how.code.companion_versions == {"ldifs": 1}
    write_record(tmp_path / "b.json", alone)
    assert "companion_versions" not in (tmp_path / "b.json").read_text(encoding="utf-8")
