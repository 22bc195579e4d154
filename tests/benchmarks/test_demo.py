"""The main job on a shortened recipe: records, table, repeatability, failures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.demo import table
from benchmarks.engine import METHODS, RunConfig, planned_steps, run, write_json
from benchmarks.streams.concepts import PANEL, SEQUENCE

ROOT = Path(__file__).parents[2]
NUMBERS = ("accuracy_matrix", "forgetting_avalanche", "panel_before", "panel_after", "loss_terms")


@pytest.fixture(scope="module")
def short() -> dict[str, Any]:
    return run(RunConfig("proxy-fda", epochs=1, evaluate_on="validation"))


def test_a_run_measures_the_stream_the_panel_and_the_cost(short: dict[str, Any]) -> None:
    assert [len(row) for row in short["accuracy_matrix"]] == [1, 2, 3, 4]
    learnt = [short["accuracy_matrix"][k][k] for k in range(len(SEQUENCE))]
    assert min(learnt) > 0.4 and short["stream_accuracy"] > 0.4
    last = short["accuracy_matrix"][-1]
    drops = [a - b for a, b in zip(learnt[:-1], last[:-1], strict=True)]
    assert short["forgetting_avalanche"] == pytest.approx(sum(drops) / len(drops), abs=1e-6)
    assert set(short["panel_before"]) == set(short["panel_after"]) == set(PANEL)
    assert short["steps"] == short["teacher_forwards"] == planned_steps(RunConfig("fda", epochs=1))
    assert all("ProxyFDA_generator_Epoch" in terms for terms in short["loss_terms"])


def test_the_same_configuration_gives_the_same_numbers(short: dict[str, Any]) -> None:
    again = run(RunConfig("proxy-fda", epochs=1, evaluate_on="validation"))
    assert {k: again[k] for k in NUMBERS} == {k: short[k] for k in NUMBERS}


def test_the_table_has_a_row_a_run(short: dict[str, Any]) -> None:
    text = table([short])
    assert "| proxy-fda |" in text and f"{100 * short['delta_lp']:+.1f}" in text


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ValueError, match="method='ewc' is unknown"):
        RunConfig("ewc")
    assert METHODS == ("finetune", "fda", "proxy-fda")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "run.json"
    write_json(path, {"x": 1})
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert json.loads(path.read_text()) == {"x": 1}


def demo(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "demo", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_command_writes_a_record_for_each_run(tmp_path: Path) -> None:
    done = demo("--methods", "finetune", "fda", "--epochs", "1", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "| finetune |" in done.stdout and "| fda |" in done.stdout
    record = json.loads((tmp_path / "fda-seed0.json").read_text())
    assert record["config"]["method"] == "fda" and record["config"]["epochs"] == 1
    assert "steps: 100%" in done.stderr


def test_a_run_that_fails_is_named_and_does_not_stop_the_others(tmp_path: Path) -> None:
    short = ("--epochs", "1", "--neighbors", "500", "--out", str(tmp_path))
    done = demo("--methods", "finetune", "fda", *short)
    assert done.returncode == 1
    assert "fda failed:" in done.stderr and "num_neighbors=500 must be below" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["finetune-seed0.json"]
