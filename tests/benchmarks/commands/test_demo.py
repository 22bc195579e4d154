"""The main job on a shortened stream: records, table, repeatability, failures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__
from benchmarks.board.table import table
from benchmarks.commands.demo import add_options, planned
from benchmarks.config import RECIPES, Config, load_recipe
from benchmarks.experiment import run as run_module
from benchmarks.experiment.prepare import planned_steps
from benchmarks.experiment.run import run
from benchmarks.experiment.training import StepTimer
from benchmarks.methods.registry import METHODS
from benchmarks.results.files import read_record
from benchmarks.results.record import Record
from benchmarks.results.scores import SCORES
from benchmarks.results.settings import rows_of
from benchmarks.streams.registry import load_stream
from benchmarks.streams.views import Views
from tests.benchmarks.execution.sweeps import instead_of_processes
from tests.benchmarks.records import finished, recipe

SHORT = {
    "train.epochs": 1,
    "stream.sets": ["digits", "textures"],
    "stream.train_images": 400,  # half of the usual number
    "panel.sets": ["colours"],
}


def short_config(method: str) -> Config:
    return load_recipe(RECIPES / "concepts.yaml").of_method(method, SHORT).config


@pytest.fixture(scope="module")
def short() -> Record:
    return run(short_config("proxy-fda"))


def test_a_run_measures_the_stream_the_panel_and_the_cost(short: Record) -> None:
    outcome, cost, stream = short.outcome, short.cost, short.stream
    assert outcome is not None and cost is not None and stream is not None
    before, first, last = outcome.accuracy
    assert before == (None, None) and first[1] is None  # no head is fitted yet
    assert first[0] is not None and None not in last
    assert stream.test == (400, 400) and stream.validation == (250, 250)
    scores = {name: function(short) for name, function in SCORES.items()}
    a, b, c = first[0], last[0] or 0.0, last[1] or 0.0
    assert min(a, b, c) > 0.5
    assert scores["avg"] == pytest.approx((a + (b + c) / 2) / 2)
    assert scores["last"] == pytest.approx((b + c) / 2)
    assert scores["forgetting_first"] == pytest.approx(a - b)
    assert outcome.avalanche_forgetting == pytest.approx(a - b, abs=1e-6)
    assert abs((scores["validation_accuracy"] or 0) - (scores["last"] or 0)) < 0.15
    assert outcome.validation_learnt is not None and min(outcome.validation_learnt) > 0.5
    start, end = outcome.panel
    assert (start.after, end.after) == (0, 2) and start.drift == {}
    for split in ("test", "validation"):
        assert start.linear_probe[split]["colours"] > 0.8
        assert start.zero_shot is not None and start.zero_shot[split]["colours"] > 0.8
    change = end.linear_probe["test"]["colours"] - start.linear_probe["test"]["colours"]
    assert scores["delta_lp"] == pytest.approx(change)
    assert 0 < (end.drift["colours"]["neighbors"] or 0) < 1
    config = short_config("proxy-fda")
    planned = planned_steps(config, load_stream(config, Views(abs, abs)))
    assert cost.steps == cost.student_forwards == cost.teacher_forwards == planned == 14
    assert cost.samples == 840 and cost.peak_rss_bytes > 10**8 and cost.peak_gpu_bytes is None
    assert cost.parameters_trained == cost.parameters_stored > 10**6
    for terms in outcome.loss_terms:
        assert {"Loss", "ProxyFDA_generator"} <= set(terms)
        assert all(len(values) == 1 for values in terms.values())  # one epoch


def test_the_same_configuration_gives_the_same_numbers(short: Record) -> None:
    assert run(short_config("proxy-fda")).reproducible() == short.reproducible()


def test_every_method_sees_the_same_batches_and_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[Any]] = {}

    class Stop(Exception):  # noqa: N818
        pass

    for method in ("lp-ft", "lwf", "fda"):

        class Look(StepTimer):
            def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
                super().before_training_iteration(strategy, **kwargs)
                noted = seen.setdefault(method, [])  # noqa: B023
                noted.append((strategy.mb_x.sum().item(), strategy.mb_y.tolist()))
                if not strategy.clock.train_iterations:
                    noted.append(round(strategy.model.head.heads[0].weight.abs().sum().item(), 2))
                if strategy.clock.train_exp_counter == 1:
                    raise Stop

        monkeypatch.setattr(run_module, "StepTimer", Look)
        with pytest.raises(Stop):
            run(short_config(method))
    assert len(seen["lp-ft"]) == 9 and all(noted == seen["lp-ft"] for noted in seen.values())


def test_the_table_has_a_row_a_run(short: Record) -> None:
    text = table(rows_of([short]))
    assert f"| proxy-fda | {short.config['strength']:g} |" in text
    assert f"| {100 * (SCORES['delta_lp'](short) or 0):+.1f} |" in text


def test_a_table_of_runs_is_the_mean_over_seeds() -> None:
    records = [
        finished(recipe("fda", strength=1.0, seed=seed), ((None,), (accuracy,)))
        for seed, accuracy in ((0, 0.5), (1, 0.75))
    ]
    text = table(rows_of(records))
    assert "| fda | 1 | 2 | 62.5 | 62.5 |" in text  # right after learning, and at the end
    assert "| seeds |" in text and "| seeds |" not in table(rows_of(records[:1]))


def demo(out: Path, *options: str) -> list[str]:
    sets = ["--sequence", "digits", "--panel", "colours"]
    return ["demo", "--epochs", "1", "--out", str(out), *sets, *options]


@pytest.mark.usefixtures("quick_processes")
def test_the_command_writes_a_record_for_each_run_and_the_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = demo(tmp_path, "--methods", "finetune", "l2sp", "--strengths", "0.1", "0.5")
    monkeypatch.setattr("sys.argv", ["benchmarks", *words])
    assert __main__.main() == 0
    shown = capsys.readouterr()
    assert "| finetune |" in shown.out and "| l2sp | 0.1 |" in shown.out.replace("**", "")
    (file,) = tmp_path.glob("l2sp-0.5-seed0-*.json")
    record = read_record(file)
    assert record.config["strength"] == 0.5 and record.config["train"]["epochs"] == 1
    assert file.stem.endswith(record.run_id[:8])
    assert (record.selection.data, record.selection.settings) == ("validation", 2)
    assert "steps: 100%" in shown.err
    page = tmp_path / "board" / "index.html"
    assert str(page) in shown.out and "l2sp" in page.read_text(encoding="utf-8")
    assert len(list(tmp_path.iterdir())) == 4


def test_the_same_command_again_keeps_every_run_and_prints_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    instant = instead_of_processes(monkeypatch)
    words = demo(tmp_path, "--methods", "finetune", "l2sp", "--strengths", "0.1", "0.5")

    def again(*options: str) -> str:
        monkeypatch.setattr("sys.argv", ["benchmarks", *words, *options])
        assert __main__.main() == 0
        return capsys.readouterr().out

    first = again()
    assert len(instant.ran) == 3 and "0 are finished" in first
    page = tmp_path / "board" / "index.html"
    page.unlink()
    second = again()
    assert len(instant.ran) == 3
    assert "3 are finished and kept; --no-resume runs them again." in second
    assert "3 of 3 runs are finished" in second and page.is_file() and str(page) in second

    def table_of(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith("|")]

    assert table_of(first) == table_of(second) and "| finetune |" in second
    again("--no-resume")
    assert len(instant.ran) == 6


@pytest.mark.usefixtures("quick_processes")
def test_a_run_that_fails_is_named_and_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = demo(tmp_path, "--chosen", "--methods", "lp-ft", "fda", "--neighbors", "500")
    monkeypatch.setattr("sys.argv", ["benchmarks", *words])
    assert __main__.main() == 1
    shown = capsys.readouterr()
    assert "fda, weight = " in shown.err and "num_neighbors=500 must be below" in shown.err
    assert "| fda |" not in shown.out and "| lp-ft |" in shown.out
    states = [read_record(path).status for path in sorted(tmp_path.glob("*.json"))]
    assert states == ["failed", "finished"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--panel", "digits"), "['digits'] cannot be learnt and be on the panel at once"),
        (("--strengths", "1", "1"), "strengths=[1.0, 1.0] must hold different numbers"),
        (("--strengths", "-1"), "strengths=-1.0 must be finite and not negative"),
        (
            ("--methods", "lp-ft", "rkd", "--neighbors", "5"),
            "--neighbors 5: no neighbour graph in lp-ft, rkd; drop --neighbors",
        ),
        (("--seeds", "0"), "--seeds 0 from --seed 0: at least one"),
        (("--full", "--strengths", "3"), "alpha=3.0 must lie in [0, 1]"),
    ],
)
def test_a_bad_option_is_answered_in_one_line(
    tmp_path: Path,
    options: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "demo", "--out", str(tmp_path), *options])
    assert __main__.main() == 2
    shown = capsys.readouterr().err
    assert words in shown and shown.startswith("error: ") and shown.count("\n") == 1


def test_options_that_act_on_a_part_of_the_methods_stay() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)

    def strengths(*words: str) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for job in planned(parser.parse_args(words)):
            found.setdefault(job.config.method, []).append(job.config.strength)
        return found

    given = strengths("--methods", "lp-ft", "fda", "--strengths", "0.3", "3")
    assert given == {"lp-ft": [None], "fda": [0.3, 3.0]}
    every = strengths("--full", "--chosen")  # all methods, each at its own strength
    assert list(every) == list(METHODS) and {len(each) for each in every.values()} == {1}
