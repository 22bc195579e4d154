"""Published figures: the files that ship, their means, and files that are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.methods.registry import METHODS
from benchmarks.results.published import PublishedTable
from benchmarks.results.published_files import PUBLISHED, read_table, shipped_tables

FILES = sorted(PUBLISHED.iterdir())
TABLES = {path.stem.removeprefix("huang2025_"): read_table(path) for path in FILES}
TEN = {  # the means of Table 1: A_LP, and Δ_LP of the other nine sets
    "naive": ("91.90", "-4.37"),
    "LP-FT": ("91.55", "-2.59"),
    "L2-SP": ("90.69", "0.29"),
    "LDIFS": ("91.66", "0.86"),
    "FDA": ("91.86", "1.39"),
    "Proxy-FDA": ("91.82", "1.54"),
}
CHECKS = {  # number of figures, and their sum as the paper prints them
    "table01": (132, "6012.81"),
    "table03": (75, "6546.57"),
    "table05": (18, "7.97"),
    "table09": (8, "725.84"),
    "table10": (8, "643.72"),
    "table12": (5, "363.14"),
    "unnumbered_ablation": (20, "1564.99"),
    "unnumbered_cost": (4, "54"),
    "unnumbered_otdd": (18, "-5.286"),
    "zheng2023_mtil": (45, "2946.8"),
}


def value(table: str, *place: Any) -> float:
    figure = TABLES[table].figure(*place)
    assert figure is not None
    return figure.value


# ---- the files that ship --------------------------------------------------------------------


def test_the_shipped_tables_are_whole() -> None:
    assert {path.suffix for path in FILES} == {".yaml"}
    assert shipped_tables() == tuple(TABLES.values())
    checks = {}
    for name, table in TABLES.items():
        rows = [by.values() for row in (*table.rows, *table.means) for by in row.figures.values()]
        values = [Decimal(repr(figure.value)) for row in rows for figure in row]
        checks[name] = len(values), sum(values, Decimal(0))
    assert checks == {name: (count, Decimal(total)) for name, (count, total) in CHECKS.items()}
    assert {t.paper.arxiv for t in TABLES.values()} == {"2505.24088v1", "2303.06628"}
    assert [t.table for t in TABLES.values()][:6] == [f"Table {n}" for n in (1, 3, 5, 9, 10, 12)]


def test_a_rival_is_no_method_of_the_registry_however_it_is_spelt() -> None:
    def bare(name: str) -> str:
        return re.sub(r"\W|_", "", name).lower()

    ours = {bare(name) for name in METHODS}
    rivals = {said for t in TABLES.values() for said, name in t.methods.items() if name is None}
    assert {"iCaRL", "L2P", "SLCA", "WTTM"} <= rivals
    assert [rival for rival in rivals if bare(rival) in ours] == []


def raw(name: str) -> dict[str, Any]:
    """A shipped file as YAML gives it, without the reader; numbers are texts."""
    text = (PUBLISHED / f"huang2025_{name}.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.load(text, Loader=yaml.BaseLoader)
    return content


def recomputed(content: dict[str, Any]) -> Iterator[tuple[tuple[str, str, str], str, str]]:
    """Place, printed figure and recomputed figure of each mean of a file."""
    rows = {row["name"]: row["figures"] for row in content["rows"]}
    for mean in content["means"]:
        for said, by_metric in mean["figures"].items():
            for metric, printed in by_metric.items():
                values = [Decimal(rows[name][said][metric]) for name in mean["over"]]
                exact = sum(values, Decimal(0)) / len(values)
                digits = Decimal(printed)
                again = exact.quantize(digits, rounding=ROUND_HALF_UP)
                yield (mean["name"], said, metric), printed, str(again)


@pytest.mark.parametrize("name", [name for name, table in TABLES.items() if table.means])
def test_means_are_those_of_their_rows_to_the_printed_digits_or_are_declared(name: str) -> None:
    differing = {
        place: (float(printed), float(again))
        for place, printed, again in recomputed(raw(name))
        if printed != again
    }
    names = {mean.name for mean in TABLES[name].means}
    declared = {
        (each.row, each.method, each.metric): (each.printed, each.recomputed)
        for each in TABLES[name].discrepancies
        if each.row in names
    }
    assert differing == declared


def test_the_means_of_table_1() -> None:
    content = raw("table01")
    (mean,) = content["means"]
    found = {said: (by["a_lp"], by["delta_lp"]) for said, by in mean["figures"].items()}
    assert found == TEN and len(mean["over"]) == len(content["rows"]) == 10
    again = {place[1:]: text for place, _, text in recomputed(content)}
    assert len(again) == 12 and again["Proxy-FDA", "a_lp"] == "91.83"  # printed 91.82
    assert [place for place, printed, text in recomputed(content) if printed != text] == [
        ("mean of the ten sets", "Proxy-FDA", "a_lp")
    ]


def test_the_changes_of_table_3_have_another_reference_than_table_1() -> None:
    """A change is compared with nothing; the file says what Table 1 as reference would give."""
    reference = value("table01", "SVHN", "Proxy-FDA", "a_lp")
    table = TABLES["table03"]
    assert len(table.discrepancies) == 3
    for each in table.discrepancies:
        assert (each.row, each.method, each.metric) == ("SVHN", "Proxy-FDA", "delta_lp")
        own = value("table03", "SVHN", "Proxy-FDA", "a_lp", each.stream)
        assert round(own - reference, 2) == each.recomputed != each.printed
    assert [each.recomputed for each in table.discrepancies] == [0.07, -0.22, 0.26]
    assert [each.printed for each in table.discrepancies] == [0.93, 0.71, 0.94]


def test_figures_of_every_table() -> None:
    """Figures of the paper that its text or other tables name too."""
    first = "SVHN → CIFAR-10 → RESISC45"
    assert value("table03", "six other sets", "Proxy-FDA", "a_lp", first) == 86.95
    assert value("table03", "Cars", "LP-FT", "a_lp") == 71.60
    assert value("table05", "CLIP ViT-L/14", "Proxy-FDA", "delta_lp") == 1.28
    assert value("table09", "RESISC45", "ZSCL", "a_lp") == 94.89
    best = TABLES["table10"].figure("10 × 20", "Proxy-FDA", "average_accuracy")
    assert best is not None and (best.value, best.spread) == (86.71, 1.24)
    assert value("table12", "ResNet-50 → MobileNet", "Proxy-FDA", "accuracy") == 73.45
    assert value("unnumbered_cost", "few-shot", "Proxy-FDA", "overhead") == 21
    assert value("unnumbered_otdd", "Cars, after EuroSAT", "Proxy-FDA", "otdd") == 0.015

    def costs(row: str, metric: str) -> float:
        default = value("unnumbered_ablation", "default", "Proxy-FDA", metric)
        return round(default - value("unnumbered_ablation", row, "Proxy-FDA", metric), 2)

    assert [costs(row, "h_coop") for row in ("random classes", "mining by entropy", "ŵ = 1")] == [
        2.8,
        0.6,
        1.6,
    ]
    assert costs("ŵ = 1", "h_promptsrc") == 0.25
    assert costs("B = 32", "h_coop") == 2.7


def test_every_change_names_its_reference() -> None:
    changes = [m for t in TABLES.values() for m in t.metrics.values() if "Δ" in m.title]
    assert len(changes) == 4 and all(metric.reference for metric in changes)


# ---- files that are refused -----------------------------------------------------------------


def small() -> dict[str, Any]:
    """A whole table of two methods, two rows and their mean."""
    figures = {"ours": {"top": 80.0}, "theirs": {"top": 81.5}}
    return {
        "paper": {"authors": "A", "year": 2025, "title": "T", "venue": "V", "arxiv": "2501.00001"},
        "table": "Table 1",
        "about": "Toy.",
        "backbone": "toy",
        "protocol": {"data": "toys"},
        "metrics": {"top": {"title": "top", "unit": "%", "better": "more", "about": "accuracy"}},
        "methods": {"ours": "fda", "theirs": None},
        "rows": [
            {"name": "a", "stream": "s", "figures": figures},
            {"name": "b", "figures": {"ours": {"top": {"value": 82, "spread": 0.5}}}},
        ],
        "means": [{"name": "mean", "over": ["a", "b"], "figures": {"ours": {"top": 81.0}}}],
        "match": {"backbones": ["toy"], "streams": {"s": {"kind": "sequence", "sets": ["A"]}}},
    }


def written(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "x.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def changed(place: str, new: Any) -> dict[str, Any]:
    """:func:`small` with another value at a dotted place; ``...`` removes the key."""
    content: Any = small()
    *path, last = place.split(".")
    inner = content
    for part in path:
        inner = inner[int(part) if isinstance(inner, list) else part]
    if new is ...:
        del inner[last]
    else:
        inner[last] = new
    return dict(content)


def test_a_small_table(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, small()))
    assert isinstance(table, PublishedTable)
    found = table.figure("b", "ours", "top")
    assert found is not None and (found.value, found.spread) == (82, 0.5)
    assert table.figure("b", "theirs", "top") is None
    mean = table.figure("mean", "ours", "top")
    assert mean is not None and mean.value == 81
    assert table.paper.link == "https://arxiv.org/abs/2501.00001"


@pytest.mark.parametrize(
    ("place", "new", "words"),
    [
        ("tabel", "Table 1", r"tabel is not a key; did you mean 'table'\?"),
        ("protocol.epoch", "5", r"protocol\.epoch is not a key; did you mean 'epochs'\?"),
        ("zzzz", 1, r"zzzz is not a key; remove it"),
        ("paper.arxiv", ..., r"paper\.arxiv is missing: write it"),
        ("rows", ..., r"rows is missing: write it"),
        ("rows", [], r"rows .*at least 1"),
        ("paper.arxiv", "http://x", r"paper\.arxiv='http://x'"),
        ("paper.arxiv", 2501.00001, r"paper\.arxiv=2501\.00001: .*string"),
        ("paper.year", "2025", r"paper\.year='2025': .*integer"),
        ("about", "", r"about=''"),
        ("rows.0.figures.ours.top", "80", r"rows\.0\.figures\.ours\.top"),
        ("rows.0.figures.ours.top", True, r"rows\.0\.figures\.ours\.top.*=True: .*number"),
        ("rows.0.figures.ours.top", float("nan"), r"rows\.0\.figures\.ours\.top.*=nan: .*finite"),
        ("rows.0.figures.ours.top", float("inf"), r"rows\.0\.figures\.ours\.top.*=inf: .*finite"),
        ("rows.1.figures.ours.top.spread", -1.0, r"top\.spread=-1\.0: .*greater"),
        ("rows.0.figures.ous", {"top": 1.0}, r"rows: a: method='ous' .* did you mean 'ours'\?"),
        ("rows.0.figures.ours.tpo", 1.0, r"rows: a, ours: metric='tpo' .* did you mean 'top'\?"),
        ("means.0.figures.his", {"top": 1.0}, r"means: mean: method='his' is not declared"),
        ("methods.ours", "fdaa", r"methods\.ours='fdaa' is not declared; did you mean 'fda'\?"),
        ("methods.rkd", None, r"methods\.rkd is a method of the registry: write rkd: rkd"),
        ("methods.more", None, r"methods\.more has no figure; remove it"),
        ("metrics.top.title", "Δ top", r"metrics\.top .*title='Δ top' is a change: reference"),
        ("metrics.top.unit", "km", r"metrics\.top\.unit='km'"),
        ("metrics.top.digits", -1, r"metrics\.top\.digits=-1"),
        ("means.0.over", ["a", "c"], r"means: mean: over='c' must be the name of a row"),
        ("rows.1.stream", "t", r"rows: b: stream='t' is not declared; known: s"),
        ("rows.1.name", "a", r"means: mean: over='a' must be"),
        ("rows.0.stream", ..., r"match\.streams: no row has stream='s'; remove it"),
        ("match.streams.s.kind", "sequnce", r"match\.streams\.s.*sequnce"),
        ("match.streams.s.sets", [], r"match\.streams\.s\.sequence\.sets"),
        ("match.backbones", [], r"match\.backbones"),
        ("backbone", None, r"backbone=None: give it, or list 'backbone' in one of not_stated"),
        ("not_stated", ["backbone"], r"backbone='toy': give it, or list"),
    ],
)
def test_a_file_that_is_refused(tmp_path: Path, place: str, new: Any, words: str) -> None:
    with pytest.raises(ValueError, match=rf"^x\.yaml: .*{words}") as caught:
        read_table(written(tmp_path, changed(place, new)))
    assert "\n" not in str(caught.value)


def test_rows_of_one_name_need_streams(tmp_path: Path) -> None:
    content = changed("means", [])
    content["rows"][1] |= {"name": "a", "stream": "s"}
    with pytest.raises(ValueError, match=r"x\.yaml: rows: 'a' is there twice"):
        read_table(written(tmp_path, content))


def test_what_is_given_is_not_unstated(tmp_path: Path) -> None:
    content = changed("protocol.epochs", "5") | {"not_stated": ["epochs"]}
    with pytest.raises(ValueError, match=r"x\.yaml: not_stated: 'epochs' is given in protocol"):
        read_table(written(tmp_path, content))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, None),
        ({"row": "c"}, "discrepancies: c, ours, top is no figure of the table"),
        ({"printed": 80.9}, r"printed=80\.9 must be 81\.0"),
        ({"recomputed": 81.0}, r"recomputed=81\.0 agrees; remove the entry"),
    ],
)
def test_discrepancies(tmp_path: Path, entry: dict[str, Any], words: str | None) -> None:
    whole = {
        "row": "mean",
        "method": "ours",
        "metric": "top",
        "printed": 81.0,
        "recomputed": 81.5,
        "about": "toy",
    }
    path = written(tmp_path, {**small(), "discrepancies": [{**whole, **entry}]})
    if words is None:
        assert read_table(path).discrepancies[0].recomputed == 81.5
    else:
        with pytest.raises(ValueError, match=rf"x\.yaml: {words}|x\.yaml: .*: {words}"):
            read_table(path)


def test_keys_that_repeat_and_files_that_are_no_tables(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for text, words in (
        ("a: {b: [{c: 1, c: 2}]}", r"x\.yaml: 'a\.b\.0\.c' is there twice; remove one"),
        ("[1, 2]", r"x\.yaml must hold keys and values"),
        ("", r"x\.yaml must hold keys and values"),
        ("a: [", r"x\.yaml is not YAML"),
        ("a: &a [*a]", r"x\.yaml is not YAML: the alias \*a is not read"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=words):
            read_table(path)
        with pytest.raises(ValueError, match=words):
            shipped_tables(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not there: it comes with the benchmarks"):
        shipped_tables(tmp_path / "gone")
