"""Scalars of accuracy matrices: by hand, against Avalanche, and bad ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.evaluation.metrics import accuracy_metrics, bwt_metrics, forgetting_metrics
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from benchmarks.results import matrix as formulas
from benchmarks.results.matrix import (
    SCALARS,
    avg,
    bwt,
    forgetting_best,
    forgetting_coda,
    forgetting_first,
    last,
    learnt,
    mean_change,
)
from tests.plugins.toys import Plain, classic

NO = None
#          experience 1, 2, 3, 4
MATRIX = [
    [0.10, 0.20, 0.10, 0.30],
    [0.80, 0.30, NO, NO],
    [0.60, 0.90, NO, NO],
    [0.70, 0.95, 0.50, NO],
    [0.40, 0.85, 0.60, 0.75],
]


def test_by_hand() -> None:
    assert last(MATRIX) == pytest.approx((0.4 + 0.85 + 0.6 + 0.75) / 4)
    stages = [0.8, (0.6 + 0.9) / 2, (0.7 + 0.95 + 0.5) / 3, last(MATRIX)]
    assert avg(MATRIX) == pytest.approx(sum(stages) / 4)
    assert learnt(MATRIX) == pytest.approx((0.8 + 0.9 + 0.5 + 0.75) / 4)
    # right after learning: 0.8, 0.9, 0.5; at the end: 0.4, 0.85, 0.6
    assert forgetting_first(MATRIX) == pytest.approx((0.4 + 0.05 - 0.1) / 3)
    assert bwt(MATRIX) == pytest.approx(-(0.4 + 0.05 - 0.1) / 3)
    # best: 0.8, 0.95, 0.6
    assert forgetting_best(MATRIX) == pytest.approx((0.4 + 0.1 + 0.0) / 3)
    # steps: 0.2; (-0.1 - 0.05) / 2; (0.3 + 0.1 - 0.1) / 3
    assert forgetting_coda(MATRIX) == pytest.approx((0.2 - 0.075 + 0.1) / 3)
    assert len({round(f(MATRIX), 6) for f in SCALARS.values()}) == len(SCALARS)


def test_weighted_by_image() -> None:
    counts = [10, 30, 20, 40]
    assert last(MATRIX, counts) == pytest.approx((4 + 25.5 + 12 + 30) / 100)
    stages = [0.8, (6 + 27) / 40, (7 + 28.5 + 10) / 60, last(MATRIX, counts)]
    assert avg(MATRIX, counts) == pytest.approx(sum(stages) / 4)
    with pytest.raises(ValueError, match="must be positive, one for each experience"):
        last(MATRIX, [1, 2])


def test_what_is_not_learnt_yet_does_not_count() -> None:
    changed = [list(row) for row in MATRIX]
    changed[0] = [NO] * 4
    changed[1][1:] = [0.99] * 3
    for name, function in SCALARS.items():
        assert function(changed) == function(MATRIX), name


def test_one_experience_is_not_forgotten() -> None:
    single = [[0.1], [0.7]]
    assert last(single) == avg(single) == 0.7
    assert [f(single) for f in (forgetting_first, forgetting_best, forgetting_coda, bwt)] == [0] * 4


def test_avalanche_says_the_same_on_a_real_run() -> None:
    torch.manual_seed(0)
    model, benchmark = Plain(), classic(3)
    strategy = Naive(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.02),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=16,
        evaluator=EvaluationPlugin(
            accuracy_metrics(experience=True, stream=True),
            forgetting_metrics(stream=True),
            bwt_metrics(stream=True),
            loggers=[],
        ),
    )
    matrix: list[list[float | None]] = [[None] * 3]
    found: dict[str, Any] = {}
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        found = strategy.eval(benchmark.test_stream)
        matrix.append([found[k] for k in sorted(found) if k.startswith("Top1_Acc_Exp")])
    value = {k.split("/")[0]: v for k, v in found.items()}
    assert forgetting_first(matrix) == pytest.approx(value["StreamForgetting"], abs=1e-6)
    assert bwt(matrix) == pytest.approx(value["StreamBWT"], abs=1e-6)
    counts = [len(e.dataset) for e in benchmark.test_stream]
    assert last(matrix, counts) == pytest.approx(value["Top1_Acc_Stream"], abs=1e-6)
    assert abs(forgetting_first(matrix)) > 0.05


def test_changes_of_a_panel() -> None:
    assert mean_change({"a": 0.5, "b": 0.7}, {"b": 0.6, "a": 0.7}) == pytest.approx(0.05)
    assert mean_change({}, {}) is None
    with pytest.raises(ValueError, match="before has"):
        mean_change({"a": 0.5}, {"b": 0.5})
    with pytest.raises(ValueError, match="finite"):
        mean_change({"a": 0.5}, {"a": float("nan")})


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ([[0.5]], "expected T . 1 rows of T"),
        ([], "expected T . 1 rows of T"),
        ([[0.1, 0.1], [0.5, 0.1], [0.5]], r"rows of \[2, 2, 1\] entries"),
        ([[None], [None]], "accuracy None on experience 1 after experience 1"),
        ([[None], [float("nan")]], "accuracy nan on experience 1"),
        ([[None], [71.0]], r"accuracy 71.0 on experience 1 .* must lie in \[0, 1\]"),
    ],
)
@pytest.mark.parametrize("name", SCALARS)
def test_bad_matrices(name: str, matrix: Any, words: str) -> None:
    assert getattr(formulas, name) is SCALARS[name]
    with pytest.raises(ValueError, match=words):
        SCALARS[name](matrix)


def test_means_do_not_depend_on_how_a_python_version_adds() -> None:
    assert formulas.weighted_mean([0.1] * 10, [1] * 10) == 0.1  # sum gives 0.9999999999999999
