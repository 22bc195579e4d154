"""The main job on a shortened stream: records, table, repeatability, failures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.backbones import Views
from benchmarks.config import Config
from benchmarks.engine import run, write_json
from benchmarks.finetune import StepTimer
from benchmarks.path import path_points
from benchmarks.prepare import planned_steps
from benchmarks.recipe_files import RECIPES, load_recipe
from benchmarks.streams.build import load_stream
from benchmarks.tables import path_table, run_table

ROOT = Path(__file__).parents[2]
SHORT = {"train.epochs": 1, "stream.sets": ["digits", "textures"], "panel.sets": ["colours"]}
NUMBERS = ("test", "validation", "loss_terms")


def short_config(method: str) -> Config:
    return load_recipe(RECIPES / "concepts" / f"{method}.yaml", SHORT).config


@pytest.fixture(scope="module")
def short() -> dict[str, Any]:
    return run(short_config("proxy-fda"))


def test_a_run_measures_the_stream_the_panel_and_the_cost(short: dict[str, Any]) -> None:
    test, validation = short["test"], short["validation"]
    before, first, last = test["accuracy_matrix"]
    assert before == [None, None] and first[1] is None  # no head is fitted yet
    assert min(first[0], *last) > 0.5
    assert short["stream"]["test_counts"] == [400, 400] and len(short["run_id"]) == 64
    assert test["average_accuracy"] == pytest.approx((first[0] + sum(last) / 2) / 2)
    assert test["stream_accuracy"] == pytest.approx(sum(last) / 2)
    assert test["forgetting_avalanche"] == pytest.approx(first[0] - last[0], abs=1e-6)
    assert abs(validation["stream_accuracy"] - test["stream_accuracy"]) < 0.15
    assert validation != test and validation["learning_accuracy"] > 0.5
    for split in (test, validation):
        change = split["panel_after"]["colours"] - split["panel_before"]["colours"]
        assert split["delta_lp"] == pytest.approx(change)
        assert split["panel_before"]["colours"] > 0.8
    config = short_config("proxy-fda")
    planned = planned_steps(config, load_stream(config, Views(abs, abs)))
    assert short["steps"] == planned == 28
    assert short["teacher_forwards"] == planned
    assert all("ProxyFDA_generator_Epoch" in terms for terms in short["loss_terms"])


def test_the_same_configuration_gives_the_same_numbers(short: dict[str, Any]) -> None:
    again = run(short_config("proxy-fda"))
    assert {k: again[k] for k in NUMBERS} == {k: short[k] for k in NUMBERS}


def test_every_method_sees_the_same_batches_and_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import engine

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

        monkeypatch.setattr(engine, "StepTimer", Look)
        with pytest.raises(Stop):
            run(short_config(method))
    assert len(seen["lp-ft"]) > 10 and all(noted == seen["lp-ft"] for noted in seen.values())


def test_the_table_has_a_row_a_run(short: dict[str, Any]) -> None:
    text = path_table({"proxy-fda": path_points([short])})
    assert f"| proxy-fda | {short['config']['strength']:g} |" in text
    assert f"{100 * short['test']['delta_lp']:+.1f}" in text


def test_a_table_of_runs_is_the_mean_over_seeds(short: dict[str, Any]) -> None:
    other = {**short, "test": {**short["test"], "stream_accuracy": 0.0}}
    text = run_table([short, other])
    assert f"| 2 | {50 * short['test']['stream_accuracy']:.1f} |" in text
    assert "| seeds |" in text and "| seeds |" not in run_table([short])


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "run.json"
    write_json(path, {"x": 1})
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert json.loads(path.read_text()) == {"x": 1}


def demo(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "demo", "--epochs", "1", "--out", str(out)]
    sets = ["--sequence", "digits", "--panel", "colours"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *sets, *options], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_the_command_writes_a_record_for_each_run_and_the_paths(tmp_path: Path) -> None:
    done = demo(tmp_path, "--methods", "finetune", "l2sp", "--strengths", "0.1", "0.5")
    assert done.returncode == 0, done.stderr
    assert "| finetune |" in done.stdout and "| l2sp | 0.1 |" in done.stdout.replace("**", "")
    (file,) = tmp_path.glob("l2sp-0.5-seed0-*.json")
    record = json.loads(file.read_text())
    assert record["config"]["strength"] == 0.5 and record["config"]["train"]["epochs"] == 1
    assert file.stem.endswith(record["run_id"][:8])
    assert "steps: 100%" in done.stderr
    assert (tmp_path / "paths.svg").read_text().startswith("<?xml")
    assert len(list(tmp_path.iterdir())) == 4


def test_a_run_that_fails_is_named_and_does_not_stop_the_others(tmp_path: Path) -> None:
    done = demo(tmp_path, "--chosen", "--methods", "lp-ft", "fda", "--neighbors", "500")
    assert done.returncode == 1
    assert "fda, weight = " in done.stderr and "num_neighbors=500 must be below" in done.stderr
    names = sorted(p.name for p in tmp_path.iterdir())
    assert len(names) == 2 and names[0].startswith("lp-ft-seed0-") and names[1] == "paths.svg"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--panel", "digits"), "['digits'] cannot be learnt and be on the panel at once"),
        (("--strengths", "1", "1"), "strengths=[1.0, 1.0] must hold different numbers"),
        (("--strengths", "-1"), "strengths=-1.0 must be finite and not negative"),
        (("--full", "--strengths", "3"), "alpha=3.0 must lie in [0, 1]"),
    ],
)
def test_a_bad_option_is_answered_in_one_line(
    tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    done = demo(tmp_path, *options)
    assert done.returncode == 2
    assert words in done.stderr and done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
