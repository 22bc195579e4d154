"""Names in the plot: every method has one, beside its own point."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.board.draw import drawn, scatter
from benchmarks.board.figures import paths_figure
from benchmarks.board.labels import at_one_place, majors, placed_labels
from benchmarks.board.model import Board
from benchmarks.results.record import Record
from tests.benchmarks.board.board_records import board, of_method
from tests.benchmarks.records import finished, recipe

NAMES = ["lp-ft", "frozen", "l2sp", "ldifs", "rkd", "lwf", "fda", "rift", "digrap"]


@pytest.fixture(scope="module")
def run() -> Record:
    return finished(recipe("lp-ft"))


def moved(record: Record, name: str, by: float) -> Record:
    """The run as that of another method, with a little more learnt and kept."""
    matrix = ((None, None), (0.9, None), (0.7 + by, 0.8))
    assert record.outcome is not None
    panel = list(record.outcome.panel)
    end = {
        split: {key: value + by for key, value in values.items()}
        for split, values in panel[-1].linear_probe.items()
    }
    panel[-1] = replace(panel[-1], linear_probe=end)
    outcome = replace(record.outcome, accuracy=matrix, panel=tuple(panel))
    return of_method(replace(record, outcome=outcome), name)


def labelled(made: Board) -> dict[str, list[str]]:
    """The full names in the drawing, by method of their group."""
    groups = re.findall(
        r'<g class="method [^"]*" data-method="([^"]*)">(.*?)</g>',
        str(scatter(made.comparisons[0])),
    )
    return {
        method: re.findall(r'<text class="name" [^>]*>([^<]*)</text>', inside)
        for method, inside in groups
    }


@pytest.mark.parametrize("apart", [0.0, 1e-4, 0.01])
def test_every_method_has_its_name_also_where_points_are_equal(
    run: Record, tmp_path: Path, apart: float
) -> None:
    made = board([moved(run, name, k * apart) for k, name in enumerate(NAMES)], tmp_path)
    assert labelled(made) == {name: [name] for name in NAMES}
    points = drawn(made.comparisons[0])
    assert len(at_one_place(points)) == (1 if apart == 0 else len(NAMES))


def test_labels_overlap_nothing_where_there_is_room(run: Record, tmp_path: Path) -> None:
    made = board([moved(run, name, 0.0) for name in NAMES], tmp_path)
    points = drawn(made.comparisons[0])
    at = {entry.row.setting: (300.0, 200.0) for entry, _, _ in points}
    labels = placed_labels(points, at, (0.0, 0.0, 640.0, 400.0))
    assert len({(label.x, label.y) for label in labels.values()}) == len(NAMES)
    apart = [label for label in labels.values() if label.leader is not None]
    assert apart and all(label.leader[:2] == (300.0, 200.0) for label in apart if label.leader)
    assert '<line class="leader"' in scatter(made.comparisons[0])


def test_a_method_without_a_chosen_strength_is_named(tmp_path: Path) -> None:
    """Without validation data no strength is chosen, and all were numbers."""
    runs = [
        finished(
            recipe("fda", strength=s),
            ((None, None), (0.9, None), (0.6 + s / 9, 0.8)),
            validation=None,
        )
        for s in (0.3, 1.0)
    ]
    made = board(runs, tmp_path)
    points = drawn(made.comparisons[0])
    assert not any(entry.row.chosen for entry, _, _ in points) and len(majors(points)) == 1
    assert labelled(made) == {"fda": ["fda 0.3"]}


def test_figures_name_all_points_of_one_place(run: Record, tmp_path: Path) -> None:
    made = board([moved(run, name, 0.0) for name in ("lp-ft", "frozen")], tmp_path)
    figure = paths_figure(made.comparisons[0])
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].texts] == ["lp-ft, frozen"]
