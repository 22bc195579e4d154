"""The main job on a shortened stream: records, table, repeatability, failures."""

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

ROOT = Path(__file__).parents[2]
SHORT: dict[str, Any] = {
    "epochs": 1, "evaluate_on": "validation", "sequence": ("digits", "textures"),
    "panel": ("colours",),
}  # fmt: skip
NUMBERS = ("accuracy_matrix", "forgetting_avalanche", "panel_before", "panel_after", "loss_terms")


@pytest.fixture(scope="module")
def short() -> dict[str, Any]:
    return run(RunConfig("proxy-fda", **SHORT))


def test_a_run_measures_the_stream_the_panel_and_the_cost(short: dict[str, Any]) -> None:
    first, last = short["accuracy_matrix"]
    assert len(first) == 1 and len(last) == 2 and min(first + last) > 0.5
    assert short["stream_accuracy"] == pytest.approx(sum(last) / 2)
    assert short["forgetting_avalanche"] == pytest.approx(first[0] - last[0], abs=1e-6)
    change = short["panel_after"]["colours"] - short["panel_before"]["colours"]
    assert short["delta_lp"] == pytest.approx(change) and short["panel_before"]["colours"] > 0.8
    planned = planned_steps(RunConfig("proxy-fda", **SHORT))
    assert short["steps"] == short["teacher_forwards"] == planned == 34
    assert all("ProxyFDA_generator_Epoch" in terms for terms in short["loss_terms"])


def test_the_same_configuration_gives_the_same_numbers(short: dict[str, Any]) -> None:
    again = run(RunConfig("proxy-fda", **SHORT))
    assert {k: again[k] for k in NUMBERS} == {k: short[k] for k in NUMBERS}


def test_the_table_has_a_row_a_run(short: dict[str, Any]) -> None:
    text = table([short])
    assert "| proxy-fda |" in text and f"{100 * short['delta_lp']:+.1f}" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "ewc"}, "method='ewc' is unknown"),
        ({"sequence": ()}, "at least one data set each"),
        ({"panel": ("digits",)}, r"\['digits'\] cannot be learnt and be on the panel"),
    ],
)
def test_bad_configurations(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RunConfig(**{"method": "fda", **options})
    assert METHODS == ("finetune", "fda", "proxy-fda")


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


def test_the_command_writes_a_record_for_each_run(tmp_path: Path) -> None:
    done = demo(tmp_path, "--methods", "finetune", "fda")
    assert done.returncode == 0, done.stderr
    assert "| finetune |" in done.stdout and "| fda |" in done.stdout
    record = json.loads((tmp_path / "fda-seed0.json").read_text())
    assert record["config"]["method"] == "fda" and record["config"]["epochs"] == 1
    assert "steps: 100%" in done.stderr


def test_a_run_that_fails_is_named_and_does_not_stop_the_others(tmp_path: Path) -> None:
    done = demo(tmp_path, "--methods", "finetune", "fda", "--neighbors", "500")
    assert done.returncode == 1
    assert "fda failed:" in done.stderr and "num_neighbors=500 must be below" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["finetune-seed0.json"]


def test_a_bad_option_is_answered_in_one_line(tmp_path: Path) -> None:
    done = demo(tmp_path, "--panel", "digits")
    assert done.returncode == 2
    assert done.stderr.strip() == "error: ['digits'] cannot be learnt and be on the panel at once"
