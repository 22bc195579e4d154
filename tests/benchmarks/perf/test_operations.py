"""``perf operations``: its table, its bounds and its refusals."""

from __future__ import annotations

import argparse

import pytest

from benchmarks.__main__ import main
from benchmarks.perf import losses, operations, options
from benchmarks.perf.bounds import Bound

LOSSES = ("fda", "rkd", "ldifs", "lwf", "l2sp")


def perf(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["benchmarks", "perf", "operations", *words])
    return main()


def test_the_options_name_the_losses_that_there_are() -> None:
    assert tuple(losses.LOSSES) == options.LOSSES
    assert options.COUNTED == operations.NAMES


def test_operations_are_counted_and_bounded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "BOUNDS", operations.BOUNDS[:1])
    parser = argparse.ArgumentParser()
    options.of_operations(parser)
    few = ("--batches", "48", "16", "--dim", "8", "--losses", *LOSSES)
    made = operations.measure(parser.parse_args(few, argparse.Namespace(check=True, quick=False)))
    points = made["summary"]["points"]
    assert [(p["loss"], p["batch"]) for p in points] == [(n, b) for n in LOSSES for b in (16, 48)]
    assert all(p["launches"] > 5 and p["peak"] > 0 and p["syncs"] == {} for p in points)
    assert all(p["launches"] < 15 for p in points if p["loss"] == "l2sp")  # of 152 tensors
    assert list(made["checked"]) == ["fda, B = 256"]
    assert 50 < made["checked"]["fda, B = 256"] < 100
    shown = operations.table(made).splitlines()
    assert shown[0] == "| loss | B = 16 | B = 48 | waits |"
    assert shown[2].startswith(f"| fda | {points[0]['launches']} / ")
    assert len(operations.draw(made).axes[1].lines) == len(LOSSES)
    monkeypatch.setattr(operations, "BOUNDS", (Bound("fda, B = 256", 50.0, "operations"),))
    assert perf(monkeypatch, "--batches", "16", "--losses", "fda", "--check") == 1
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("operations a step: fda ") and "exceeded: fda, B = 256" in last


def test_a_smaller_memory_takes_more_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [
        operations._point("rkd", operations.Size(256, 64), int(gib * 2**30))["launches"]
        for gib in (80, 8)
    ]
    assert counts[0] < counts[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--memory", "0"), "--memory 0.0 must be at least 1"),
        (("--memory", "nan"), "--memory nan must be at least 1"),
        (("--dim", "0"), "--dim 0 must be at least 1"),
        (("--batches", "0", "4"), "--batches 0 must be at least 1"),
    ],
)
def test_sizes_below_one_are_refused(
    words: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert perf(monkeypatch, *words) == 2
    assert message in capsys.readouterr().err
