"""Published figures on the board: beside the same stream and backbone, and used for nothing."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.board.figures import figures
from benchmarks.board.model import Board, make_board
from benchmarks.board.page import page
from benchmarks.board.published import published_page
from benchmarks.board.reported import reported_beside
from benchmarks.board.reported_text import figure_text, reported_csv
from benchmarks.board.text import markdown, rows_csv, runs_csv
from benchmarks.board.write import current_versions, write_board
from benchmarks.results.files import Collected, collect, write_record
from benchmarks.results.published import PublishedTable
from benchmarks.results.published_files import shipped_tables
from benchmarks.results.published_parts import Figure, Metric
from benchmarks.results.record import Record
from tests.benchmarks.board.board_records import HOSTILE, paths
from tests.benchmarks.board.reported_records import (
    CLIP,
    TABLES,
    configured,
    imagenet_r,
    sequence,
    triangle,
)
from tests.benchmarks.records import failed, finished

ROOT = Path(__file__).parents[3]


def beside(record: Record) -> list[str]:
    return [part.table.table for part in reported_beside([record], TABLES)]


# ---- which table belongs where --------------------------------------------------------------


def test_a_sequence_has_the_tables_of_its_sets_in_their_order() -> None:
    assert beside(sequence()) == ["Table 3", "Table 9"]
    assert beside(sequence(backbone__name="open_clip:ViT-B-32-quickgelu/openai")) == [
        "Table 3",
        "Table 9",
    ]
    cars = ["SVHN", "StanfordCars", "folder:elsewhere/RESISC45"]
    run = sequence(stream__sets=cars, train__epochs=1, panel__sets=["MNIST"])
    assert beside(run) == ["Table 3"]
    (part,) = reported_beside([run], TABLES)
    assert {row.stream for row in part.rows} == {"SVHN → Cars → RESISC45"}
    assert [row.name for row in part.rows] == ["SVHN", "Cars", "RESISC45", "six other sets"]
    alone = {"stream__sets": ["DTD"], "train__epochs": 1, "panel__sets": ["MNIST"]}
    (part,) = reported_beside([sequence(**alone)], TABLES)
    assert part.table.table == "Table 1" and [row.name for row in part.rows] == ["DTD"]


@pytest.mark.parametrize(
    "settings",
    [
        {"stream__sets": ["CIFAR10", "SVHN", "folder:RESISC45"]},
        {"stream__sets": ["SVHN", "CIFAR10"]},
        {"stream__sets": ["SVHN", "CIFAR10", "folder:RESISC45", "Food101"]},
        {"stream__sets": ["SVHN", "npz:CIFAR10", "folder:RESISC45"]},
        {"stream__sets": ["SVHN", "CIFAR10", "folder:resisc"]},
        {"stream__shared_labels": True},
        {"backbone__name": "open_clip:ViT-B-16/openai"},
        {"backbone__name": "open_clip:ViT-B-32/laion2b_s34b_b79k"},
        {"backbone__weights": "random"},
        {"backbone__weights": "clip.safetensors"},
        {"backbone__image_size": 96},
        {"backbone__options": {"force_quick_gelu": True}},
        {"backbone__train__image": "frozen"},
        {"method": "finetune", "head__kind": "zero-shot", "backbone__train__text": "full"},
        {"stream__order": "cyclic-1"},
        {"stream__shots": 5},
        {"stream__shots_list": "few.json"},
    ],
)
def test_another_sequence_or_backbone_has_none(settings: dict[str, Any]) -> None:
    assert beside(sequence(train__epochs=1)) == ["Table 3", "Table 9"]
    assert beside(sequence(train__epochs=1, **settings)) == []


def test_split_imagenet_r_has_the_table_of_its_split() -> None:
    assert beside(imagenet_r()) == ["Table 10"]
    assert beside(imagenet_r(backbone__name="open_clip:ViT-B-16/openai")) == ["Table 10"]
    assert beside(imagenet_r(held=240)) == ["Table 10"]  # held-out images are training images
    assert beside(imagenet_r(backbone__name="timm:vit_base_patch16_224.augreg_in21k")) == []
    assert beside(imagenet_r(stream__num_experiences=20)) == []
    whole = imagenet_r()
    assert whole.stream is not None
    others: list[dict[str, Any]] = [
        {"summary": {"split": "hash80"}},
        {"summary": {}},
        {"train": (2_399,) * 10},
        {"test": (599,) * 10},
    ]
    for other in others:
        assert beside(replace(whole, stream=replace(whole.stream, **other))) == []


def test_without_a_finished_run_there_is_none() -> None:
    record = failed(configured("ldifs.yaml"))
    made = make_board(Collected((record,), {}), current_versions(), published=TABLES)
    assert made.comparisons == () and reported_csv(made) is None


# ---- shown, and used for nothing ------------------------------------------------------------


@pytest.fixture(scope="module")
def records() -> tuple[Record, ...]:
    runs = [sequence(method, seed) for method in ("lp-ft", "ldifs", "fda") for seed in (0, 1)]
    return (*runs, *paths(2))


def boards(records: tuple[Record, ...]) -> tuple[Board, Board]:
    """The board with the shipped tables, and without any."""
    collected = Collected(records, {})
    with_tables = make_board(collected, current_versions(), published=TABLES)
    return with_tables, make_board(collected, current_versions())


def test_nothing_that_was_measured_depends_on_what_is_reported(
    records: tuple[Record, ...],
) -> None:
    made, bare = boards(records)
    assert [len(c.reported) for c in made.comparisons] in ([2, 0], [0, 2])
    assert [c.reported for c in bare.comparisons] == [(), ()]
    assert rows_csv(made) == rows_csv(bare) and runs_csv(made) == runs_csv(bare)
    assert figures(boards(records[:6])[0]) == figures(boards(records[:6])[1]) != {}
    aside = re.compile(r'<aside class="reported".*?</aside>\n', re.DOTALL)
    assert len(aside.findall(page(made))) == 2
    assert aside.sub("", page(made)) == page(bare)
    blocks = re.compile(r"\n### Reported, not run here: [^#]*(?=\n#|\n$|$)")
    assert len(blocks.findall(markdown(made))) == 2
    assert blocks.sub("", markdown(made)) == markdown(bare)


def test_markdown_shows_the_figures_with_paper_and_table(records: tuple[Record, ...]) -> None:
    text = markdown(boards(records)[0])
    section = next(part for part in text.split("\n## ") if "Reported" in part)
    assert section.startswith("concepts on open")  # the records of tests have one name
    measured, first, second = section.split("\n### ")
    assert "| **lp-ft** |" in measured
    assert first.startswith("Reported, not run here: Huang et al. (2025), Table 3\n")
    assert second.startswith("Reported, not run here: Huang et al. (2025), Table 9\n")
    assert "(https://arxiv.org/abs/2505.24088v1)" in first and "are not ranked" in first
    assert "| naive | finetune | 90.29 | – | 95.25 | 95.30 | 80.91 |\n" in first
    assert "| Proxy-FDA | proxy-fda | 96.72 | +0.93 | 97.29 | 95.38 | 86.95 |\n" in first
    assert "| ZSCL | zscl | 92.70 | 95.82 | 94.89 | 83.10 |\n" in second
    assert "The paper does not state: learning rate, epochs and weight decay; " in first
    reported = section.split("Reported, not run here")[1]
    assert "96.32" not in reported and "Cars" not in reported  # of the other sequences
    assert first.count("- Discrepancy: ") == 1 and "printed +0.93, recomputed +0.07" in first


def test_the_page_shows_them_below_the_table_of_the_section(records: tuple[Record, ...]) -> None:
    text = page(boards(records)[0])
    section = next(part for part in text.split("<section ") if "<aside" in part)
    assert section.index('<table class="board"') < section.index('<aside class="reported"')
    assert "Reported, not run here: Huang et al. (2025), Table 3</h3>" in section
    assert '<th scope="row">ZSCL</th><td>zscl</td><td>92.70</td>' in section
    assert '<a href="https://arxiv.org/abs/2505.24088v1">arXiv 2505.24088v1</a>' in section


def test_csv_of_reported_figures(
    records: tuple[Record, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.board.write.figures", lambda board: {})  # slow, and no part
    for record in records:
        write_record(tmp_path / "records" / f"{record.label}.json", record)
    out = tmp_path / "out"
    write_board(collect([tmp_path / "records"]), out)
    text = (out / "reported.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 25 + 8  # of Tables 3 and 9
    assert {row["status"] for row in rows} == {"reported, not run here"}
    assert {row["backbone"] for row in rows} == {CLIP}
    (one,) = [r for r in rows if (r["method_in_paper"], r["row"]) == ("ZSCL", "SVHN")]
    assert (one["value"], one["method"], one["table"]) == ("92.7", "zscl", "Table 9")
    (change,) = [row for row in rows if row["metric"] == "Δ_LP"]
    assert change["value"] == "0.93" and change["reference"].startswith("the accuracy right after")
    for name in ("board.csv", "runs.csv"):
        assert "ZSCL" not in (out / name).read_text(encoding="utf-8")
    for record in records:
        if record.config["stream"]["kind"] == "sequence":
            (tmp_path / "records" / f"{record.label}.json").unlink()
    write_board(collect([tmp_path / "records"]), out)
    assert not (out / "reported.csv").exists()


def test_text_of_a_table_is_no_markup(records: tuple[Record, ...]) -> None:
    table = next(t for t in TABLES if t.table == "Table 9")
    hostile = replace(table, table=HOSTILE, protocol=replace(table.protocol, data=HOSTILE))
    made = make_board(Collected(records, {}), current_versions(), published=[hostile])
    assert page(made).count("&lt;script&gt;") >= 2 and HOSTILE not in page(made)
    for text in (markdown(made), published_page([hostile])):
        assert "<script" not in text and "<img" not in text and "&#60;script&#62;" in text


@pytest.mark.parametrize(
    ("figure", "digits", "reference", "text"),
    [
        (Figure(74.6, 1.21), 2, None, "74.60 ± 1.21"),
        (Figure(76.75), 1, None, "76.75"),
        (Figure(78.1), 1, None, "78.1"),
        (Figure(7), 0, None, "7"),
        (Figure(100.0), 1, None, "100.0"),
        (Figure(1.5e-5), 2, None, "0.000015"),
        (Figure(17.0), 0, None, "17"),
        (Figure(-11.12), 2, "before", "−11.12"),
        (Figure(0.01), 2, "before", "+0.01"),
        (Figure(0.45), 1, "before", "+0.45"),
        (None, 2, None, "–"),
    ],
)
def test_figures_as_they_are_printed(
    figure: Figure | None, digits: int, reference: str | None, text: str
) -> None:
    metric = Metric("top", "%", "more", "accuracy", digits, reference)
    assert figure_text(figure, metric) == text


# ---- the page of all tables -----------------------------------------------------------------


def test_the_page_of_published_figures_is_what_the_data_give() -> None:
    text = (ROOT / "docs/published.md").read_text(encoding="utf-8")
    again = "python -m benchmarks published --out docs/published.md"
    assert text == published_page(TABLES), f"docs/published.md is old: {again}"
    assert text.count("\n## Reported, not run here: ") == len(TABLES) == 10
    assert f"`{again}`" in text


def numbers(table: PublishedTable) -> list[Figure]:
    rows = (*table.rows, *table.means)
    return [f for row in rows for by in row.figures.values() for f in by.values()]


def test_the_page_holds_every_figure_once() -> None:
    text = (ROOT / "docs/published.md").read_text(encoding="utf-8")
    for section, table in zip(text.split("\n## ")[1:], TABLES, strict=True):
        lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
        width = len(table.methods)
        cells = [cell.strip() for line in lines for cell in line[2:-2].split(" | ")[-width:]]
        shown = sorted(
            float(cell.partition(" ± ")[0].replace("−", "-")) for cell in cells if cell != "–"
        )
        assert shown == sorted(figure.value for figure in numbers(table)), table.table


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import __main__

    def call(*words: object) -> int:
        monkeypatch.setattr("sys.argv", ["benchmarks", "published", *map(str, words)])
        return __main__.main()

    out = tmp_path / "page.md"
    assert call("--out", out) == 0 and out.read_text(encoding="utf-8") == published_page(TABLES)
    assert capsys.readouterr().out == f"10 tables: reported, not run here.\n{out}\n"

    def without_data() -> tuple[PublishedTable, ...]:
        return shipped_tables(tmp_path / "gone")

    monkeypatch.setattr("benchmarks.commands.published.shipped_tables", without_data)
    assert call("--out", out) == 2 and "is not there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stream", "towers", "there"),
    [
        ({}, ("full", "full"), True),
        ({"order": "II"}, ("full", "full"), True),
        ({"order": "cyclic-1"}, ("full", "full"), False),
        ({"splits": "coop"}, ("full", "full"), False),
        ({"shots": 5}, ("full", "full"), False),
        ({"shots_list": "few.json"}, ("full", "full"), False),
        ({}, ("full", "frozen"), False),
    ],
)
def test_mtil_has_zscls_table_where_splits_order_and_towers_are_zscls(
    stream: dict[str, Any], towers: tuple[str, str], there: bool
) -> None:
    keys = {f"stream.{key}": value for key, value in ({"order": "I"} | stream).items()}
    keys |= {"backbone.train.image": towers[0], "backbone.train.text": towers[1]}
    run = finished(configured("mtil.yaml", "finetune", **keys), triangle(11))
    assert bool(beside(run)) is there
    if there:
        (part,) = reported_beside([run], TABLES)
        assert part.table.paper.authors == "Zheng et al."
        assert {row.stream for row in part.rows} == {f"order {keys['stream.order']}"}
