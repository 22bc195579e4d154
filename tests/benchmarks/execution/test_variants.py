"""Variants of a sweep: settings of one method side by side, for ablations."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.board.text import markdown, rows_csv
from benchmarks.board.write import board_of
from benchmarks.execution.fitted import fitted
from benchmarks.execution.job import Job
from benchmarks.execution.matrix import jobs_of, load_matrix
from benchmarks.results.files import Collected
from tests.benchmarks.execution.sweeps import call, instead_of_processes, small_jobs, write
from tests.benchmarks.records import finished

K = "options.num_neighbors"
TWO: list[dict[str, Any]] = [{K: 16}, {K: 8}]


def named(jobs: list[Job]) -> list[tuple[Any, ...]]:
    return [
        (job.config.method, job.config.options.get("num_neighbors"), job.config.strength)
        for job in jobs
    ]


def test_every_variant_runs_at_every_strength_with_every_seed(tmp_path: Path) -> None:
    jobs = small_jobs(tmp_path, methods=["fda"], variants=TWO)
    one = [("fda", k, strength) for k in (16, 8) for strength in (0.3, 1.0)]
    assert named(jobs) == one * 2 and [job.config.seed for job in jobs] == [0] * 4 + [1] * 4
    assert len({job.config.identity for job in jobs}) == len({job.file for job in jobs}) == 8
    assert {job.selection.settings for job in jobs} == {4}  # of the method, variants included
    assert jobs[0].about == "fda, weight = 0.3, options.num_neighbors=16, seed 0"
    assert jobs[2].about == "fda, weight = 0.3, options.num_neighbors=8, seed 0"
    plain = small_jobs(tmp_path, methods=["fda"])
    again = small_jobs(tmp_path, methods=["fda"], variants=[{}, {K: 8}])
    assert [job.config for job in plain[:2]] == [job.config for job in again[:2]]
    assert again[0].about == "fda, weight = 0.3, seed 0"
    given = small_jobs(tmp_path, methods=["fda"], variants=TWO, strengths="recipe")
    assert len(given) == 4 and {job.selection.data for job in given} == {"given"}


def test_variants_may_belong_to_one_method(tmp_path: Path) -> None:
    variants = {"fda": [{K: 16}, {K: 8, "reference": "initial"}]}
    jobs = small_jobs(tmp_path, seeds=[0], strengths={"fda": [1]}, variants=variants)
    assert named(jobs) == [("lp-ft", None, None), ("fda", 16, 1.0), ("fda", 8, 1.0)]
    assert jobs[2].about == "fda, weight = 1, options.num_neighbors=8, reference=initial, seed 0"
    assert [job.config.reference for job in jobs] == ["previous", "previous", "initial"]


def test_a_variant_may_have_its_own_strength(tmp_path: Path) -> None:
    variants = {"fda": [{"strength": 3}, {K: 8, "strength": 0.1}, {K: 4}]}
    jobs = small_jobs(tmp_path, seeds=[0], methods=["fda"], variants=variants)
    assert named(jobs) == [
        ("fda", None, 3.0),
        ("fda", 8, 0.1),
        ("fda", 4, 0.3),
        ("fda", 4, 1.0),
    ]
    assert jobs[0].about == "fda, weight = 3, seed 0"
    (auto,) = small_jobs(tmp_path, seeds=[0], methods=["fda"], variants=[{"strength": "auto"}])
    assert auto.config.strength == "auto"
    with pytest.raises(ValueError, match=r"variants.strength='much' must be a number, or auto"):
        small_jobs(tmp_path, methods=["fda"], variants=[{"strength": "much"}])
    with pytest.raises(ValueError, match=r"variants.strength=1: lp-ft has none; methods with a"):
        small_jobs(tmp_path, methods=["lp-ft"], variants=[{"strength": 1}])


def test_the_number_of_settings_may_come_from_an_earlier_sweep(tmp_path: Path) -> None:
    jobs = small_jobs(tmp_path, methods=["fda"], strengths={"fda": [1]}, tried=5)
    assert {(job.selection.data, job.selection.settings) for job in jobs} == {("validation", 5)}
    with pytest.raises(ValueError, match="tried"):
        small_jobs(tmp_path, tried=0)


def test_a_variant_wins_over_what_is_set_for_all(tmp_path: Path) -> None:
    jobs = small_jobs(
        tmp_path,
        methods=["lp-ft"],
        strengths="recipe",
        seeds=[0],
        variants=[{}, {"train.epochs": 2}],
    )
    assert [job.config.train.epochs for job in jobs] == [1, 2]


def lengths(folder: Path, below: dict[str, Any], *variants: dict[str, Any]) -> list[Any]:
    changes = {"methods": ["lp-ft"], "seeds": [0], "strengths": "recipe", "set": below}
    jobs = small_jobs(folder, **changes, variants=list(variants))
    trained = [(job.about, job.config.train) for job in jobs]
    return [(about, train.steps, train.epochs) for about, train in trained]


def test_the_length_of_a_variant_replaces_the_one_that_is_set_for_all(tmp_path: Path) -> None:
    both = lengths(tmp_path, {"train.epochs": 4}, {}, {"train.steps": 100})
    assert both == [
        ("lp-ft, seed 0", None, 4),
        ("lp-ft, train.steps=100, seed 0", 100, 1),
    ]
    for epochs in (1, 4):
        variant = {"train.epochs": epochs}
        both = lengths(tmp_path, {"train": {"steps": 100}}, {}, variant)
        assert both == [
            ("lp-ft, seed 0", 100, 1),
            (f"lp-ft, train.epochs={epochs}, seed 0", None, epochs),
        ]
    (one,) = lengths(tmp_path, {"train.steps": 100}, {"train.steps": None})
    assert one[1:] == (None, 2)  # the recipe's


def test_a_part_in_a_matrix_merges_key_by_key(tmp_path: Path) -> None:
    (job,) = small_jobs(
        tmp_path,
        methods=["fda"],
        seeds=[0],
        strengths="recipe",
        set={"train": {"epochs": 3, "batch": 8}, "panel": {"each_experience": True}},
        variants=[{"options": {"num_neighbors": 8}, "train": {"batch": 16}}],
    )
    train, panel = job.config.train, job.config.panel
    assert (train.lr, train.epochs, train.batch) == (3e-4, 3, 16)
    assert panel.sets == ("shapes", "colours", "latin", "printed") and panel.each_experience
    assert job.config.options == {"feature_module": "tower", "num_neighbors": 8}


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([], "variants"),
        ([{"train.lr": 1, "train": {"lr": 1}}], r"m\.yaml: variants: train\.lr is given twice"),
        ([{"train": {"epochs": 1, "steps": 2}}], r"variants: train\.steps=2 and train\.epochs=1"),
        ({"fda": []}, "variants"),
        ([3], "variants"),
        ({"fdaa": TWO}, "method='fdaa' is unknown; did you mean 'fda'"),
        ({"rkd": TWO}, r"variants: \['rkd'\] are not among the methods of the sweep"),
        ([{"seed": 1}], r"variants\.seed: say it by the matrix's seeds"),
        ({"fda": [{}, {"strength": 1}]}, r"variants: \{\} and \{\} are the same run of fda"),
        ([{"method": "fda"}], r"variants\.method: say it by the matrix's methods"),
        ([{}, {}], r"variants: \{\} may be given once"),
        ({"fda": [{K: 8}, {K: 8}]}, r"'options.num_neighbors': 8\} may be given once"),
        (
            {"fda": [{}, {"options.feature_module": "tower"}]},
            r"variants: \{\} and \{options\.feature_module=tower\} are the same run of fda",
        ),
        (TWO, "lp-ft has no plugin, and so none"),
        ({"fda": [{"options.num_neighbor": 1}]}, r"did you mean 'num_neighbors'\?"),
        ({"fda": [{"train.epoch": 1}]}, r"did you mean 'train.epochs'\?"),
    ],
)
def test_bad_variants(tmp_path: Path, variants: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_jobs(tmp_path, variants=variants)


def test_variants_are_rows_of_their_own_with_a_label(tmp_path: Path) -> None:
    """Also where two variants have no strength in common."""
    jobs = small_jobs(tmp_path, seeds=[0, 1], variants={"fda": TWO})
    jobs = [
        job
        for job in jobs
        if (job.config.options.get("num_neighbors"), job.config.strength)
        not in ((16, 0.3), (8, 1.0))
    ]
    records = tuple(finished(job.config) for job in jobs)
    made = board_of(Collected(records, {}))
    (comparison,) = made.comparisons
    rows = {entry.row.label: entry for entry in comparison.entries}
    assert list(rows) == ["lp-ft", "fda 0.3", "fda 1"] and not rows["lp-ft"].distinct
    assert rows["fda 0.3"].distinct == {K: "8"} and rows["fda 1"].distinct == {K: "16"}
    assert all(len(entry.row.finished) == 2 for entry in rows.values())
    assert len({entry.path for entry in rows.values()}) == 3  # no line joins the variants
    assert "fda 1 (options.num\\_neighbors=16)" in markdown(made)
    sheet = list(csv.DictReader(io.StringIO(rows_csv(made))))
    assert {row["distinct"] for row in sheet} == {"", f"{K}=8", f"{K}=16"}


def test_the_strengths_of_a_variant_are_one_path(tmp_path: Path) -> None:
    jobs = small_jobs(tmp_path, seeds=[0], variants={"fda": TWO})
    made = board_of(Collected(tuple(finished(job.config) for job in jobs), {}))
    paths = [entry.path for entry in made.comparisons[0].entries if entry.row.method == "fda"]
    assert sorted(paths) == sorted(2 * [("fda", f"{K}=8"), ("fda", f"{K}=16")])


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs/records.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "m.yaml").write_text(block, encoding="utf-8")
    jobs = fitted(jobs_of(load_matrix(str(tmp_path / "m.yaml")), tmp_path))
    assert len(jobs) == 3 * (1 + 3)


def test_the_command_lists_and_runs_variants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    instant = instead_of_processes(monkeypatch)
    matrix = write(tmp_path, methods=["fda"], seeds=[0], strengths=[1], variants=TWO)
    assert call("--matrix", matrix, "--out", tmp_path / "out", "--list") == 0
    first, second = capsys.readouterr().out.strip().splitlines()
    assert "fda, weight = 1, options.num_neighbors=16, seed 0: absent" in first
    assert "fda, weight = 1, options.num_neighbors=8, seed 0: absent" in second
    assert call("--matrix", matrix, "--out", tmp_path / "out") == 0
    assert len(instant.ran) == 2 and len(list((tmp_path / "out/concepts").glob("*.json"))) == 2
