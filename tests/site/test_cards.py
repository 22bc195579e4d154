"""The glossary's example, the data card and the citation say what the project's functions give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from avalanche_proxyfda import __version__
from benchmarks.config import SEQUENCE
from benchmarks.results.files import read_record
from benchmarks.results.matrix import forgetting_first, mean_change
from benchmarks.results.transfer import transfer
from benchmarks.streams.concepts.data import COUNTS, EMBEDDED, PANEL, PANEL_TRAIN
from benchmarks.streams.concepts.render import class_names

ROOT = Path(__file__).parents[2]


def rows(text: str) -> list[list[str]]:
    """Cells of the lines of all tables, without heads."""
    lines = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    return [line for line in cells if "---" not in line]


def test_the_worked_example_of_the_glossary() -> None:
    page = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    example = page.partition("## A worked example")[2]
    table = {name: numbers for name, *numbers in rows(example)}
    matrix = [[float(v) for v in table[key]] for key in ("before", "after 1", "after 2", "after 3")]
    panel = {name: [float(v) for v in table[name]] for name in ("pets", "cars")}

    def change(column: int) -> float | None:
        before = {name: values[column] for name, values in panel.items()}
        return mean_change(before, {name: values[column + 1] for name, values in panel.items()})

    said = dict(re.findall(r"^- (\S+) is .* = (-?[\d.]+)\.(?:\s|$)", example, re.MULTILINE))
    computed = {
        "Forgetting": forgetting_first(matrix),
        "Transfer": transfer(matrix),
        "Δ_LP": change(0),
        "Δ_ZS": change(2),
    }
    assert {name: float(value) for name, value in said.items()} == pytest.approx(computed)
    for name, formula in re.findall(r"^- (\S+) is (.*) = ", example, re.MULTILINE):
        shown = re.sub(r"[^0-9.()+*/-]", "", formula.replace("−", "-"))
        assert eval(shown) == pytest.approx(computed[name]), name


def test_the_data_card_lists_the_embedded_sets() -> None:
    page = (ROOT / "docs/evidence/data-card.md").read_text(encoding="utf-8")
    listed = {cells[0].strip("`"): cells for cells in rows(page) if cells[0].startswith("`")}
    assert set(listed) == set(EMBEDDED)
    for name, (_, classes, _, use, chance) in listed.items():
        assert int(classes) == len(class_names(name))
        assert float(chance.rstrip(" %")) == pytest.approx(100 / int(classes), abs=0.005)
        assert use == ("learnt" if name in SEQUENCE else "panel")
    assert {name for name, cells in listed.items() if cells[3] == "panel"} == set(PANEL)
    numbers = (COUNTS["train"], COUNTS["validation"], COUNTS["test"], PANEL_TRAIN)
    said = re.search(
        r"has (\d+) images for training, (\d+) .* (\d+) for\s+test\. .* has (\d+)", page
    )
    assert said is not None and tuple(map(int, said.groups())) == numbers
    taken = re.search(r"chooses ([\d ]+) of them", page)
    assert taken is not None and int(taken[1].replace(" ", "")) == sum(COUNTS.values())


def test_the_page_on_forgetting_has_the_numbers_of_its_record() -> None:
    page = (ROOT / "docs/learn/forgetting.md").read_text(encoding="utf-8")
    record = read_record(ROOT / "docs/learn/forgetting-latin.json")
    assert record.outcome is not None
    before, after = record.outcome.panel
    shares = re.findall(r"([\d.]+) %", page)
    probes = [100 * moment.linear_probe["test"]["latin"] for moment in (before, after)]
    kept = after.drift["latin"]["neighbors"]
    assert kept is not None
    assert list(map(float, shares)) == pytest.approx([*probes, 100 * kept], abs=0.51)
    assert [f"{probe:.1f}" for probe in probes] == shares[:2]
    assert record.config["stream"]["sets"] == ["digits", "cyrillic"]


def test_the_citation_is_of_this_version() -> None:
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert content["version"] == __version__ and content["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(content)
    (paper,) = content["references"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(paper["authors"]) == 9 and paper["url"].removeprefix("https://") in readme
    assert f"{paper['volume']}:{paper['start']}–{paper['end']}" in readme
