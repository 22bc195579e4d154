"""The board's numbers, marks and choices."""

from __future__ import annotations

import re
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.board.model import Board, Entry, make_board
from benchmarks.board.page import page
from benchmarks.board.text import markdown
from benchmarks.board.words import difference, findings
from benchmarks.board.write import current_versions, write_board
from benchmarks.results.files import collect, write_record
from benchmarks.results.intervals import Interval
from benchmarks.results.scores import delta_lp, last
from tests.benchmarks.board.board_records import (
    board,
    entries,
    paths,
    records_of,
    run_of,
    troubled,
)
from tests.benchmarks.records import failed, finished, recipe, sha


def test_a_difference_shows_on_which_side_of_zero_it_is() -> None:
    near = Interval(0.00064, 0.00055, {0: 0.0, 1: 0.0})
    assert difference(near, "percent") == "+0.06 ± 0.06" and near.excludes_zero
    assert difference(Interval(-0.00148, 0.00142, {}), "change") == "−0.15 ± 0.14"
    assert difference(Interval(0.012, 0.009, {}), "percent") == "+1.2 ± 0.9"
    assert difference(Interval(0.012, None, {}), "percent") == "+1.2"


def test_means_intervals_and_differences_by_hand(tmp_path: Path) -> None:
    records = paths()
    made = board(records, tmp_path)
    (comparison,) = made.comparisons
    entry, plain = entries(made)["ldifs 1000"], entries(made)["lp-ft"]
    own = {r.config["seed"]: r for r in records if r.label.startswith("ldifs-1000-")}
    base = {r.config["seed"]: r for r in records if r.label.startswith("lp-ft-")}
    values = [last(own[s]) for s in range(3)]
    cell: Any = entry.cells["last"]
    assert cell.mean == pytest.approx(statistics.mean(values))
    assert cell.half == pytest.approx(4.302653 * statistics.stdev(values) / 3**0.5)
    changes = [(delta_lp(own[s]) or 0) - (delta_lp(base[s]) or 0) for s in range(3)]
    difference: Any = entry.differences["delta_lp"]
    assert difference.mean == pytest.approx(statistics.mean(changes))
    assert difference.excludes_zero and difference.mean > 0
    ratios = [own[s].cost.seconds_per_step / base[s].cost.seconds_per_step for s in range(3)]  # type: ignore[union-attr]
    cost: Any = entry.cells["step_cost"]
    assert cost.mean == pytest.approx(statistics.mean(ratios))
    assert comparison.baseline is plain.row and set(plain.differences.values()) == {None}
    assert entry.front and entry.row.chosen and entry.ranked and not entry.marks
    told = findings(comparison, ("delta_lp",))
    sentences = dict(told)
    assert re.match(r"ldifs 1000: better: Δ_LP \+3\.\d ± \d\.\d\.", sentences["ldifs"])


def chosen(made: Board) -> list[str]:
    return [label for label, entry in entries(made).items() if entry.row.chosen]


def test_settings_are_chosen_on_the_seeds_that_all_have(tmp_path: Path) -> None:
    def path(scores: dict[float, dict[int, float]], **options: Any) -> list[Any]:
        return [
            finished(recipe("fda", strength=s, seed=seed), validation=(value, 0.0), **options)
            for s, by_seed in scores.items()
            for seed, value in by_seed.items()
        ]

    whole = {1.0: {0: 0.9, 1: 0.5}, 3.0: {0: 0.8, 1: 0.8}}
    assert chosen(board(path(whole), tmp_path / "a")) == ["fda 3"]
    partial = {1.0: {0: 0.9, 1: 0.1}, 3.0: {0: 0.8}}  # seed 1 of 3 is still to come
    assert chosen(board(path(partial), tmp_path / "b")) == ["fda 1"]
    apart = {1.0: {0: 0.9}, 3.0: {1: 0.8}}
    made = board(path(apart), tmp_path / "c")
    assert chosen(made) == [] and all(e.headline for e in entries(made).values())
    other = finished(recipe("fda", strength=9.0), validation=(0.99, 0.0), split="easier")
    assert chosen(board([*path(whole), other], tmp_path / "d")) == ["fda 3"]


def test_without_validation_data_every_setting_stands_for_its_method(tmp_path: Path) -> None:
    records = [
        finished(recipe(m, strength=s, seed=seed), validation=None)
        for m, s in (("lp-ft", None), ("fda", 0.3), ("fda", 1.0))
        for seed in (0, 1)
    ]
    made = board(records, tmp_path)
    assert chosen(made) == [] and page(made).count('data-chosen="yes"') == 3
    told = [text.partition(": Last")[0] for _, text in findings(made.comparisons[0])]
    assert told == ["fda 0.3: no clear difference", "fda 1: no clear difference"]


def words(entry: Entry) -> list[str]:
    return [mark.word for mark in entry.marks]


def test_marks(tmp_path: Path) -> None:
    made = make_board(collect([troubled(tmp_path)]), current_versions())
    found = entries(Board(made.comparisons[-1:], (), {}, ()))
    if "rift 1" not in found:
        found = entries(Board(made.comparisons[:1], (), {}, ()))
    assert words(found["rift 1"]) == ["too few seeds"] and not found["rift 1"].ranked
    assert words(found["proxy-fda 0.3"]) == ["1 failed", "too few seeds"]
    assert words(found["lwf 10"]) == ["mixed splits"] and not found["lwf 10"].ranked
    assert words(found["rkd 10"]) == ["mixed machines", "stale", "uncommitted"]
    assert found["rkd 10"].cells["step_cost"] is None and found["rkd 10"].cells["last"]
    assert words(found["ldifs 100"]) == []
    assert not any(found["lwf 10"].differences.values()) and not found["lwf 10"].front
    assert len(made.failed) == 1 and len(made.refused) == 2 and len(made.comparisons) == 2


def test_a_row_is_stale_when_the_version_of_its_method_was_raised(tmp_path: Path) -> None:
    (record,) = records_of(["fda"], seeds=1)
    code = replace(record.how.code, method_version=None, method_sha256=sha("sources"))
    old = replace(record, how=replace(record.how, code=code))  # from before versions: version 1
    for version, stale in ((1, []), (2, ["stale"])):
        write_record(tmp_path / "old.json", old)
        made = make_board(collect([tmp_path]), {"fda": version})
        (entry,) = entries(made).values()
        assert words(entry) == stale and entry.ranked
    assert "version 1 of the method, which is version 2 now" in entry.marks[0].about


def test_other_images_or_weights_than_the_others_are_not_ranked(tmp_path: Path) -> None:
    odd = [run_of(recipe("rift", strength=1.0, seed=s), 0.8, 0.05, split="other") for s in (0, 1)]
    for seed in (0, 1):
        made = run_of(recipe("rkd", strength=1.0, seed=seed), 0.8, 0.05)
        odd.append(replace(made, initial_tower_sha256=sha("others")))
        panel = {name: replace(data, sha256=sha("others")) for name, data in made.panel.items()}  # type: ignore[union-attr]
        odd.append(replace(run_of(recipe("lwf", strength=1.0, seed=seed), 0.8, 0.05), panel=panel))
    found = entries(board([*paths(2), *odd], tmp_path))
    for label in ("rift 1", "rkd 1", "lwf 1"):
        entry = found[label]
        assert words(entry) == ["other split"] and not entry.ranked and not entry.front
        assert not any(entry.differences.values())
    assert [e.ranked for e in found.values()] == sorted(
        (e.ranked for e in found.values()), reverse=True
    )


def test_plain_fine_tuning_on_another_split_is_no_baseline(tmp_path: Path) -> None:
    records = [r for r in paths(2) if r.config["method"] != "lp-ft"]
    records += [run_of(recipe("lp-ft", seed=s), 0.5, -0.1, split="old") for s in (0, 1)]
    made = board(records, tmp_path)
    assert made.comparisons[0].baseline is None
    assert not any(any(e.differences.values()) for e in entries(made).values())


def test_a_row_that_was_trained_otherwise_says_so(tmp_path: Path) -> None:
    longer = [
        run_of(recipe("rift", strength=1.0, seed=s, train__epochs=50), 0.7, 0) for s in (0, 1)
    ]
    made = board([*paths(2), *longer], tmp_path)
    entry = entries(made)["rift 1"]
    assert words(entry) == ["trained otherwise"] and entry.ranked
    assert "train.epochs=50 in place of 2" in page(made)


def test_a_frozen_tower_is_a_row_like_any_other(tmp_path: Path) -> None:
    frozen = [run_of(recipe("frozen", seed=s), 0.641, 0.0) for s in (0, 1)]
    made = board([*paths(2), *frozen], tmp_path)
    entry, (comparison,) = entries(made)["frozen"], made.comparisons
    assert comparison.baseline is not None and comparison.baseline.method == "lp-ft"
    assert entry.ranked and entry.headline and not entry.marks and not entry.distinct
    assert all(entry.differences[key] for key in ("last", "delta_lp", "forgetting_first"))
    assert any(text.startswith("frozen: ") for _, text in findings(comparison))
    assert "| **frozen** |" in markdown(made) and 'data-method="frozen"' in page(made)
    alone = board(frozen, tmp_path / "alone").comparisons[0]
    assert alone.baseline is None  # frozen is no plain fine-tuning


def test_comparisons_of_one_name_are_told_apart(tmp_path: Path) -> None:
    made = board([*paths(1), *paths(1, panel__train=50)], tmp_path)
    assert sorted(c.apart["panel.train"] for c in made.comparisons) == ["50", "null"]
    assert "panel.train=50" in page(made) and "panel.train=50" in markdown(made)


def test_seeds_that_were_asked_for(tmp_path: Path) -> None:
    made = board(paths(2), tmp_path, seeds=5)
    assert all(words(e) == ["too few seeds"] for e in entries(made).values())


def test_plain_fine_tuning_may_be_missing_or_have_random_heads(tmp_path: Path) -> None:
    some = [r for r in paths(2) if r.config["method"] != "lp-ft"]
    made = board(some, tmp_path / "a")
    assert made.comparisons[0].baseline is None
    assert "No run of plain fine-tuning" in findings(made.comparisons[0])[0][1]
    assert "No plain fine-tuning" in markdown(made) and "nothing: no run of plain" in page(made)
    random_heads = [run_of(recipe("finetune", seed=s), 0.4, -0.1) for s in (0, 1)]
    baseline = board([*some, *random_heads], tmp_path / "b").comparisons[0].baseline
    assert baseline is not None and baseline.method == "finetune"
    baseline = board([*paths(2), *random_heads], tmp_path / "c").comparisons[0].baseline
    assert baseline is not None and baseline.method == "lp-ft"


def test_runs_with_other_settings_are_rows_that_say_so(tmp_path: Path) -> None:
    more = [run_of(recipe("fda", strength=0.3, seed=s, train__lr=1e-3), 0.5, 0.0) for s in (0, 1)]
    made = board([*paths(2), *more], tmp_path)
    told = [e.distinct for e in made.comparisons[0].entries if e.row.label == "fda 0.3"]
    assert sorted(t["train.lr"] for t in told) == ["0.0003", "0.001"] and len(told) == 2
    assert "train.lr=0.001" in page(made) and "train.lr=0.001" in markdown(made)


def test_the_baseline_is_the_plain_row_that_validation_data_chose(tmp_path: Path) -> None:
    """The rival shares its learning rate with a plain row that is worse, and was not chosen."""
    records = [
        run_of(recipe(method, strength=strength, seed=seed, train__lr=rate), learnt, 0.0)
        for method, strength, rate, learnt in (
            ("lp-ft", None, 1e-3, 0.70),
            ("lp-ft", None, 3e-4, 0.60),
            ("l2sp", 1.0, 3e-4, 0.65),
        )
        for seed in range(4)
    ]
    made = board(records, tmp_path)
    (rival,) = (e for e in made.comparisons[0].entries if e.row.method == "l2sp")
    difference: Any = rival.differences["last"]
    assert difference.mean == pytest.approx(-0.05, abs=0.01)
    baseline = made.comparisons[0].baseline
    assert baseline is not None and baseline.chosen


def test_one_seed_claims_nothing(tmp_path: Path) -> None:
    made = board(paths(1), tmp_path)
    told = " ".join(text for _, text in findings(made.comparisons[0]))
    assert "from one seed, so perhaps by chance" in told and "better" not in told
    assert all(e.ranked for e in entries(made).values())


def test_without_a_panel_keeping_is_of_the_stream(tmp_path: Path) -> None:
    records = []
    for record in paths(2):
        assert record.outcome is not None
        bare = replace(record, panel={}, outcome=replace(record.outcome, panel=()))
        records.append(bare)
    made = board(records, tmp_path)
    assert made.comparisons[0].keeping == "bwt"
    text = page(made)
    assert "BWT: minus forgetting (points)" in text and 'data-key="delta_lp"' not in text


def test_runs_that_all_failed_and_a_single_experience(tmp_path: Path) -> None:
    made = board([failed(recipe("fda", strength=1.0, seed=s)) for s in (0, 1)], tmp_path / "a")
    assert not made.comparisons and len(made.failed) == 2
    for text in (page(made), markdown(made)):
        assert text.count("RuntimeError: no more memory") >= 2 and "No run is finished." in text
    assert set(write_board(collect([tmp_path / "a"]), tmp_path / "out").parent.iterdir()) == {
        tmp_path / "out" / name for name in ("index.html", "board.md", "board.csv", "runs.csv")
    }
    single = finished(recipe("lp-ft"), ((None,), (0.8,)))
    assert "80.0" in page(board([single], tmp_path / "b"))
