"""The board serves any number of methods, and methods that the registry does not have."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.board import figures as drawing
from benchmarks.board.columns import COLUMN, COLUMNS, KEEPING, LEARNING, Column
from benchmarks.board.looks import UNKNOWN, class_of, look_of, style
from benchmarks.board.model import Board, make_board
from benchmarks.board.page import page
from benchmarks.board.text import markdown, rows_csv, runs_csv
from benchmarks.board.write import current_versions, write_board
from benchmarks.methods import registry
from benchmarks.results.files import Collected
from benchmarks.results.scores import SCORES
from tests.benchmarks.board.board_records import HOSTILE, many_methods, records_of

ROOT = Path(__file__).parents[3]


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> dict[str, registry.Method]:
    found = many_methods()
    monkeypatch.setattr(registry, "METHODS", found)
    assert len(found) == 25
    return found


def board_of(names: Any) -> Board:
    return make_board(Collected(tuple(records_of(names)), {}), current_versions())


def looks_in(figure: Any) -> list[tuple[str, str]]:
    """Colour and marker of every dot, in the order of methods."""
    dots = [container.lines[0] for container in figure.axes[0].containers]
    return [(dot.get_color(), dot.get_marker()) for dot in dots]


def test_twenty_five_methods(methods: dict[str, registry.Method], tmp_path: Path) -> None:
    made = board_of(reversed(methods))
    (comparison,) = made.comparisons
    assert [entry.row.method for entry in comparison.entries] == list(methods)
    assert all(entry.ranked for entry in comparison.entries)
    text = page(made)
    for name, method in methods.items():
        rule = f".m-{name}{{--light:{method.colour};--dark:{method.dark_colour}}}"
        assert text.count(rule) == 1
        assert f'class="own m-{name}" data-method="{name}"' in text
    for sheet, lines in ((rows_csv(made), 25), (runs_csv(made), 50)):
        rows = list(csv.DictReader(io.StringIO(sheet)))
        assert len(rows) == lines and {row["method"] for row in rows} == set(methods)
    assert all(f"| **{name}** |" in markdown(made) for name in methods)
    write_board(Collected(made.records, {}), tmp_path)
    assert len(list(tmp_path.glob("figure-1-*.svg"))) == 2


def test_each_method_has_a_look_of_its_own_in_figures(methods: dict[str, registry.Method]) -> None:
    figure: Any = drawing.paths_figure(board_of(methods).comparisons[0])
    drawn = looks_in(figure)
    assert len(drawn) == 25 == len(set(drawn))
    assert drawn == [(method.colour, method.marker) for method in methods.values()]


def test_a_method_that_the_registry_does_not_have_is_muted() -> None:
    names = ["lp-ft", "theirs", HOSTILE, "own m-fda"]
    made = board_of(names)
    methods = [entry.row.method for entry in made.comparisons[0].entries]
    assert methods == ["lp-ft", *sorted(names[1:])]
    text = page(made)
    assert HOSTILE not in text
    assert text.count('<tbody role="rowgroup" id') == text.count('<g class="method') == 4
    assert text.count('class="own" data-method=') == text.count('class="method own" data') == 3
    assert text.count('class="own m-lp-ft" data') == 1 and "m-theirs" not in text
    for name in names[1:]:
        assert class_of(name) == "own" and look_of(name) == UNKNOWN
    figure: Any = drawing.paths_figure(made.comparisons[0])
    looks = looks_in(figure)
    assert looks[1:] == [UNKNOWN] * 3 and UNKNOWN not in looks[:1]
    assert not [e for e in made.comparisons[0].entries if e.marks]  # no version, so not stale


def test_class_names_are_safe_whatever_the_registry_has(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = ["a b", "a-b", "a_b", "A-b", 'x"}</style>', "λ"]
    known = registry.METHODS["fda"]
    monkeypatch.setattr(registry, "METHODS", dict.fromkeys(odd, known))
    classes = [class_of(name).removeprefix("own m-") for name in odd]
    assert len(set(classes)) == len(odd) and classes[1] == "a-b"
    assert all(c.replace("_", "").replace("-", "").isalnum() and c.isascii() for c in classes)
    assert style(odd).count("\n") == len(odd) - 1 and "</style" not in style(odd)
    assert style(["a-b", "theirs"]).count("--light") == 1  # a method without runs has no rule


def test_columns() -> None:
    assert len(COLUMN) == len(COLUMNS)
    for column in COLUMNS:
        assert (column.ratio_of or column.key) in SCORES
    assert {LEARNING, *KEEPING} <= set(COLUMN)
    with pytest.raises(ValueError, match="x: cost has no paired difference"):
        Column("x", "X", "bytes", "less", "x", "x", cost=True, in_findings=True)
    with pytest.raises(ValueError, match="x: ratio_of='seconds_per_step' needs cost"):
        Column("x", "X", "times", "less", "x", "x", ratio_of="seconds_per_step")
    with pytest.raises(ValueError, match=r"lasd: 'lasd' is no score .*; did you mean 'last'\?"):
        Column("lasd", "X", "percent", "more", "x", "x")
    with pytest.raises(ValueError, match=r"x: 'step' is no score .*; add it there"):
        Column("x", "X", "times", "less", "x", "x", ratio_of="step", cost=True)


def test_the_board_loads_neither_torch_nor_avalanche() -> None:
    code = (
        "import sys\n"
        "import benchmarks.__main__\n"
        "benchmarks.__main__.make_parser(['board'])\n"
        "import benchmarks.results.record, benchmarks.results.files, benchmarks.results.scores\n"
        "loaded = {'torch', 'avalanche', 'torchvision', 'benchmarks.board.write'}\n"
        "print(*sorted(loaded & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert done.stdout.split() == ["benchmarks.board.write"], done.stderr


def test_help_lists_the_jobs_without_importing_any() -> None:
    code = (
        "import sys\n"
        "from benchmarks.__main__ import COMMANDS, make_parser\n"
        "print(make_parser([]).format_help())\n"
        "modules = {command.module for command in COMMANDS.values()}\n"
        "print('loaded:', *sorted(modules & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert done.stdout.endswith("loaded:\n"), done.stderr
    for name in ("demo", "run", "sweep", "board", "published", "rerun", "features", "perf"):
        assert f"\n    {name} " in done.stdout
    assert "draw records as tables, figures and one page" in done.stdout
