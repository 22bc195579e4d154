"""Uses the four additions in a copy of the project, and writes what they gave as JSON.

``python -m tests.house.additions.use FOLDER``, run in the copy.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from avalanche_proxyfda.plugins import CenterPlugin
from benchmarks.board.write import write_board
from benchmarks.config import RECIPES, load_recipe
from benchmarks.experiment.run import run
from benchmarks.perf.arms import arm_of
from benchmarks.results.files import collect, write_record
from tests.golden.run import main as write_golden

SHORT: dict[str, Any] = {
    "stream.kind": "mirrored",
    "stream.sets": ["digits", "textures"],
    "stream.most": 64,
    "panel.sets": ["colours"],
    "panel.train": 60,
    "panel.test": 40,
    "train.epochs": 1,
}
TESTS = (
    "tests/losses/test_center.py",
    "tests/metrics/test_drift.py",
    "tests/metrics/test_panel.py::test_a_measure_that_is_registered_is_a_value_of_the_metric",
    "tests/benchmarks/experiment/test_measure.py"
    "::test_a_measure_that_is_registered_is_in_the_drift_of_the_record",
    "tests/plugins/test_signatures.py",
    "tests/benchmarks/methods/test_registry.py",
    "tests/benchmarks/streams/test_stream_registry.py",
    "tests/benchmarks/config/test_config.py::test_constants_are_those_of_the_code_that_uses_them",
    "tests/benchmarks/board/test_board_methods.py::test_columns",
    "tests/benchmarks/perf/test_perf.py::test_every_method_is_measured",
    "tests/house/test_arrows.py::test_no_import_points_up_or_sideways",
    "tests/house/test_arrows.py::test_no_circle",
    "tests/test_golden.py::test_numbers_are_those_of_the_version[center]",
    "tests/test_golden.py::test_the_losses_are_not_those_of_plain_fine_tuning[center]",
    "tests/test_golden.py::test_the_file_holds_whole_runs_of_the_methods_of_the_registry",
)
"""Tests that know every method, measure, kind and column, and those that the additions bring."""


def main(folder: Path) -> None:
    """Write the golden numbers, a record and its board; run tests; write ``facts.json``."""
    refused = write_golden([])
    config = load_recipe(RECIPES / "concepts.yaml").of_method("center", SHORT).config
    record = run(config)
    write_record(folder / "records" / f"{record.label}.json", record)
    write_board(collect([folder / "records"]), folder / "board")
    assert record.outcome is not None
    assert record.stream is not None
    facts = {
        "project": str(Path(benchmarks.__file__).parents[1]),
        "plugin": CenterPlugin.__module__,
        "golden": refused,
        "method": record.config["method"],
        "stream": record.stream.name,
        "accuracy": record.outcome.accuracy[-1],
        "drift": record.outcome.panel[-1].drift,
        "terms": sorted(record.outcome.loss_terms[-1]),
        "arm": arm_of("center, cached").method,
        "tests": int(pytest.main(["-p", "no:cacheprovider", "-x", *TESTS])),
    }
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
