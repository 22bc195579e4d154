"""The words on how much was forgotten, and on the choice of a data set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.reproduce.recorded import chosen_set
from benchmarks.reproduce.verdict import verdict, why_chosen
from benchmarks.results.record import Record
from tests.benchmarks.records import finished, recipe

CONFIG = recipe("finetune")


def learnt(end: float, second: float = 0.8) -> Record:
    record = finished(CONFIG, ((None, None), (0.9, None), (end, second)))
    outcome: Any = record.outcome
    return replace(record, panel={}, outcome=replace(outcome, panel=()))


@pytest.mark.parametrize(
    ("end", "kept", "start", "why"),
    [
        (0.95, 0.9, "Little was forgotten: 90 %", "no set lost accuracy"),
        (0.90, 0.8, "Little was forgotten: 80 %", "no set lost accuracy"),
        (0.89996, 0.9, "Little was forgotten: 90 %", "no set lost accuracy"),  # shown as 90.0
        (0.90, 0.5, "Forgetting: 50 %", "no set lost accuracy"),
        (0.70, 0.9, "Forgetting: 90 %", "its accuracy fell the most"),
    ],
)
def test_little_is_said_where_neither_neighbours_nor_accuracy_fell(
    end: float, kept: float, start: str, why: str
) -> None:
    record = learnt(end)
    line = verdict(record, "set0", kept)
    assert line == (
        f"{start} of neighbours kept; test accuracy 90.0 % right after learning, "
        f"{100 * end:.1f} % at the end."
    )
    name = chosen_set(record, None)
    assert name == ("set1" if end > 0.9 else "set0")  # the last set cannot fall
    assert why_chosen(record, name).startswith(f"{name} is shown: {why}")


def test_a_set_of_the_panel_is_judged_by_its_probe() -> None:
    record = finished(CONFIG, panel={"shapes": (0.8, 0.77), "colours": (0.9, 0.9)})
    assert verdict(record, "shapes", 0.9).startswith("Forgetting: 90 % of neighbours kept; linear")
    assert verdict(record, "colours", 0.9) == (
        "Little was forgotten: 90 % of neighbours kept; linear probe 90.0 % before, "
        "90.0 % after tuning."
    )
    assert "the most neighbours of the panel; --set NAME" in why_chosen(record, "shapes")
