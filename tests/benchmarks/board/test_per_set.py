"""The table of data sets: their images, chance, and accuracies at the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.board.per_set import per_set
from benchmarks.results.record import Record
from benchmarks.results.settings import rows_of
from tests.benchmarks.records import failed, finished, recipe


def listed(record: Record) -> Record:
    stream: Any = record.stream
    summary = {"sets": [{"classes": 2}, {"classes": 4}]}
    return replace(record, stream=replace(stream, summary=summary, test=(8, 400)))


def test_each_set_has_its_images_and_chance() -> None:
    first = listed(finished(recipe("frozen"), ((None, None), (0.9, None), (0.5, 0.26))))
    second = listed(finished(recipe("fda", strength=2.0), ((None, None), (0.9, None), (0.75, 0.2))))
    lines = per_set(rows_of([first, second])).splitlines()
    assert lines[1:8] == [
        "|  | set0 | set1 |",
        "| --- | --- | --- |",
        "| test images | 8 | 400 |",
        "| one image (points) | 12.5 | 0.2 |",
        "| chance | 50.0 | 25.0 |",
        "| frozen | 50.0 * | 26.0 |",
        "| fda 2 | 75.0 | 20.0 * |",
    ]
    assert lines[-1].startswith("*: at or below chance")


def test_seeds_are_averaged_and_other_streams_have_no_table() -> None:
    ends = (0.4, 0.8)
    same = [
        listed(finished(recipe("frozen", seed=k), ((None, None), (0.9, None), (end, 0.5))))
        for k, end in enumerate(ends)
    ]
    assert "| frozen | 60.0 | 50.0 |" in per_set(rows_of(same))
    assert per_set(rows_of([finished(recipe("frozen"))])) == ""
    assert per_set(rows_of([failed(recipe("frozen"))])) == ""
