"""The lines below the table of runs."""

from __future__ import annotations

import pytest

from benchmarks.board.table import table
from benchmarks.methods.registry import METHODS
from benchmarks.results.settings import rows_of
from tests.benchmarks.records import finished, recipe


@pytest.mark.parametrize(
    ("methods", "line"),
    [
        (("lp-ft", "ldifs"), "strength: λ."),
        (("lp-ft", "wise-ft", "ldifs"), "strength: λ; alpha of wise-ft."),
        (("wise-ft", "digrap"), "strength: λ; mu of digrap, alpha of wise-ft."),
    ],
)
def test_the_line_on_strengths_names_the_methods_of_the_table(
    methods: tuple[str, ...], line: str
) -> None:
    strengths = {name: METHODS[name].strength for name in methods}
    records = [
        finished(recipe(name, **({} if x is None else {"strength": x})))
        for name, x in strengths.items()
    ]
    (found,) = [
        each for each in table(rows_of(records)).splitlines() if each.startswith("strength:")
    ]
    assert found == line
