"""docs/fidelity.md: no empty cell, and every file, test and option that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.config.recipes import load_recipe
from tests.methods import arguments

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its two head lines."""
    part = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


@pytest.mark.parametrize(
    ("heading", "least"), [("What the paper says", 25), ("What the paper does not say", 15)]
)
def test_no_cell_is_empty(heading: str, least: int) -> None:
    table = rows(heading)
    assert len(table) >= least
    for row in table:
        assert len(row) == 4 and all(row), row


def test_files_and_tests_exist() -> None:
    for _, _, file, tests in rows("What the paper says"):
        assert (ROOT / file.strip("`")).is_file(), file
        for named in re.findall(r"`([^`]+)`", tests):
            path, _, function = named.partition("::")
            assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8"), named


def test_options_exist() -> None:
    config = (
        load_recipe(ROOT / "benchmarks" / "recipes" / "imagenet_r.yaml").of_method("fda").config
    )
    known = {*arguments("fda"), *arguments("proxy-fda"), "clusters_per_class", "max_points"}
    for *_, option in rows("What the paper does not say"):
        for name in re.findall(r"`([^`]+)`", option):
            part, _, key = name.partition(".")
            assert name in known or hasattr(getattr(config, part), key), name


def test_every_equation_is_there() -> None:
    first = " ".join(row[0] for row in rows("What the paper says"))
    for equation in ("Eq. 2", "Eq. 3", "4", "Eq. 5", "Table 10", "Table 3", "OTDD", "mining"):
        assert equation in first
