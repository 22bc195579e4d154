"""Distances between features against plain loops, and what must not change them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda.metrics import (
    MEASURES,
    defined_drift,
    drift,
    drift_between,
    knn_accuracy,
    linear_cka,
    mean_l2,
    measure_names,
    neighbor_overlap,
    otdd,
)
from tests.reference import drift as judge


def pair(count: int = 30, width: int = 6, other: int | None = None) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(count * 100 + width)
    first = torch.randn(count, width, generator=source, dtype=torch.float64)
    noise = torch.randn(count, other or width, generator=source, dtype=torch.float64)
    return first, (first if other is None else noise) * 0.7 + noise


def rotation(width: int) -> Tensor:
    source = torch.Generator().manual_seed(5)
    made: Tensor = torch.linalg.qr(
        torch.randn(width, width, generator=source, dtype=torch.float64)
    ).Q
    return made


def test_mean_l2() -> None:
    a, b = pair()
    assert mean_l2(a, b) == pytest.approx(judge.mean_l2(a.numpy(), b.numpy()))
    assert mean_l2(a, a * 3) == pytest.approx(0, abs=1e-12) and mean_l2(a, -a) == pytest.approx(2)
    assert mean_l2(torch.zeros(2, 3), torch.zeros(2, 3)) == 0  # zero rows are not NaN


@pytest.mark.parametrize(("count", "width", "other"), [(30, 6, None), (30, 6, 9), (8, 20, 12)])
def test_linear_cka(count: int, width: int, other: int | None) -> None:
    a, b = pair(count, width, other)
    value = linear_cka(a, b)
    assert value == pytest.approx(judge.linear_cka(a.numpy(), b.numpy())) and 0 < value < 1
    assert value == pytest.approx(linear_cka(b, a))
    assert linear_cka(a, 3 * a @ rotation(width) + 5) == pytest.approx(1)
    assert linear_cka(a.float(), b.float()) == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("k", [1, 5, 29])
def test_neighbor_overlap(k: int) -> None:
    a, b = pair()
    expected = judge.neighbor_overlap(a.numpy(), b.numpy(), k)
    assert neighbor_overlap(a, b, k) == pytest.approx(expected)
    norms = torch.rand(30, 1, dtype=torch.float64) + 0.1
    assert neighbor_overlap(a, norms * a @ rotation(6), k) == 1
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    assert neighbor_overlap(a[order], b[order], k) == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 4, 500])
def test_knn(k: int) -> None:
    rows, _ = pair(60, 4)
    labels = torch.arange(60) % 3
    rows = rows + 1.5 * torch.nn.functional.one_hot(labels, 4)
    train, test = (rows[:40], labels[:40]), (rows[40:], labels[40:])
    expected = judge.knn_accuracy(
        train[0].numpy(), train[1].tolist(), test[0].numpy(), test[1].tolist(), k, 0.07
    )
    assert knn_accuracy(train, test, k) == pytest.approx(expected)
    assert knn_accuracy(train, train, 1) == 1
    many = test[0].repeat(120, 1), test[1].repeat(120)  # more than one chunk
    assert knn_accuracy(train, many, k) == pytest.approx(expected)


def test_the_nearest_neighbour_decides_at_a_low_temperature() -> None:
    """Also where exp(cosine / temperature) is no float32, or would be 0."""
    rows, _ = pair(60, 4)
    labels = torch.arange(60) % 3
    train, test = (rows[:40], labels[:40]), (rows[40:], labels[40:])
    nearest = knn_accuracy(train, test, 1)
    assert 0.2 < nearest < 1
    for temperature in (1e-5, 1e-8):
        assert knn_accuracy(train, test, 9, temperature) == nearest


def test_neighbor_overlap_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair()
    whole = neighbor_overlap(a, b, 5)
    monkeypatch.setattr(drift, "queries_at_once", lambda *_: 7)  # the last holds two
    assert neighbor_overlap(a, b, 5) == whole


def labelled(count: int, seed: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    rows = torch.randn(count, 5, generator=source, dtype=torch.float64)
    return rows + 2 * torch.nn.functional.one_hot(labels, 5), labels


def test_otdd_against_matrix_roots_and_an_assignment() -> None:
    pytest.importorskip("ot")
    first, second = labelled(30, 0), labelled(30, 1)
    turn, seen = rotation(5), set()
    for most in (1, 2, 4, 100):
        value = otdd(*first, *second, clusters_per_class=most)
        expected = judge.otdd(
            first[0].numpy(), first[1].tolist(), second[0].numpy(), second[1].tolist(), most
        )
        assert value == pytest.approx(expected, rel=1e-6) and value > 0.1
        assert otdd(*second, *first, clusters_per_class=most) == pytest.approx(value, rel=1e-9)
        turned = first[0] @ turn, first[1], second[0] @ turn, second[1]
        assert otdd(*turned, clusters_per_class=most) == pytest.approx(value)
        seen.add(round(value, 6))
        assert (most == 4) == (value == otdd(*first, *second))  # the default
    assert len(seen) == 4


@pytest.mark.parametrize("most", [1, 4])
def test_the_order_of_the_samples_does_not_change_otdd(most: int) -> None:
    pytest.importorskip("ot")
    first, second = labelled(40, 0), labelled(33, 1)
    value = otdd(*first, *second, clusters_per_class=most)
    for seed in range(5):
        source = torch.Generator().manual_seed(seed)
        one, other = (torch.randperm(n, generator=source) for n in (40, 33))
        mixed = first[0][one], first[1][one], second[0][other], second[1][other]
        assert otdd(*mixed, clusters_per_class=most) == pytest.approx(value, rel=1e-9)


def test_otdd_is_zero_on_the_same_set_in_any_order_and_sizes_may_differ() -> None:
    pytest.importorskip("ot")
    rows, labels = labelled(40, 0)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    for most in (1, 3, 4):
        value = otdd(rows, labels, rows[order], labels[order] * 7 + 3, clusters_per_class=most)
        assert value == pytest.approx(0, abs=1e-6)
    assert otdd(rows, labels, *labelled(25, 1, 5)) > 0
    assert otdd(rows, labels, rows, labels, max_points=15) == pytest.approx(0, abs=1e-6)
    single = torch.ones(1, 5), torch.zeros(1)
    assert otdd(*single, *single) == 0


def test_the_table_calls_the_functions() -> None:
    pytest.importorskip("ot")
    rows, labels = labelled(30, 0)
    after = rows + labelled(30, 1)[0]
    values = {
        "l2": mean_l2(rows, after),
        "cka": linear_cka(rows, after),
        "neighbors": neighbor_overlap(rows, after, 4),
        "otdd-kmeans": otdd(rows, labels, after, labels),
    }
    assert drift_between(rows, after, labels, measure_names(optional=True), 4) == values
    assert defined_drift(rows, after, labels, ("otdd-kmeans", "l2", "l2")) == {
        name: values[name] for name in ("otdd-kmeans", "l2")
    }
    assert measure_names() == ("l2", "cka", "neighbors")


def test_measures_without_a_meaning_are_none_and_the_others_stay() -> None:
    rows, labels = labelled(6, 0)
    values = defined_drift(rows, torch.ones_like(rows), labels, ("neighbors", "cka", "l2"))
    assert values["neighbors"] is None and values["cka"] is None and (values["l2"] or 0) > 0
    with pytest.raises(ValueError, match="num_neighbors=10 must be below"):
        drift_between(rows, rows, labels, ("neighbors",))
    for function in (drift_between, defined_drift):
        with pytest.raises(ValueError, match="'neighbours' is unknown; did you mean 'neighbors'"):
            function(rows, rows, labels, ("l2", "neighbours"))
        with pytest.raises(ValueError, match="'otdd' is unknown; did you mean 'otdd-kmeans'"):
            function(rows, rows, labels, ("otdd",))  # the name of the figure of class labels


def test_each_measure_has_a_suffix_and_a_line_in_the_docs() -> None:
    suffixes = [measure.suffix for measure in MEASURES.values()]
    assert len(set(suffixes)) == len(suffixes)
    text = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
    for name, measure in MEASURES.items():
        line = next(line for line in text.splitlines() if f"`Drift{measure.suffix}/<set>`" in line)
        assert f"`{name}`" in line


NAN = torch.full((4, 2), torch.nan)
ONES = torch.ones(4, 2)
LABELS = torch.zeros(4, dtype=torch.int64)
WIDE = torch.ones(4, 3)
NONE = torch.ones(0, 2)
MAPS = torch.ones(4, 2, 1)
FLAT = torch.ones(4, 0)
PAIR = ONES, LABELS


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mean_l2(ONES, torch.ones(4, 3)), "must have the same width"),
        (lambda: mean_l2(torch.ones(0, 2), torch.ones(0, 2)), "have 0 rows; 1 are needed"),
        (lambda: mean_l2(ONES, torch.ones(3, 2)), "of the same N"),
        (lambda: linear_cka(ONES, ONES), "the same for every image"),
        (lambda: linear_cka(ONES[:1], ONES[:1]), "have 1 rows; 2 are needed"),
        (lambda: linear_cka(ONES, NAN), "after holds NaN or Inf"),
        (lambda: neighbor_overlap(NAN, ONES, 2), "before holds NaN or Inf"),
        (lambda: neighbor_overlap(ONES, ONES, 4), "num_neighbors=4 must be below the number"),
        (lambda: neighbor_overlap(ONES, ONES, 0), "num_neighbors=0"),
        (
            lambda: knn_accuracy((ONES, LABELS[:3]), (ONES, LABELS)),
            r"train\[1\] has 3 entries",
        ),
        (lambda: knn_accuracy((ONES, LABELS), (NAN, LABELS)), r"test\[0\] holds NaN or Inf: check"),
        (lambda: knn_accuracy((ONES, LABELS), (ONES, LABELS), 3, 0), "temperature=0"),
        (
            lambda: knn_accuracy(PAIR, (WIDE, LABELS)),
            r"test\[0\] has 3 columns, and train",
        ),
        (
            lambda: knn_accuracy((ONES, LABELS - 1), PAIR),
            r"train\[1\] holds -1: number",
        ),
        (lambda: knn_accuracy(PAIR, (ONES, LABELS - 1)), r"test\[1\] holds -1: number"),
        (
            lambda: knn_accuracy((ONES, LABELS.float()), PAIR),
            r"train\[1\] has the dtype",
        ),
        (
            lambda: knn_accuracy((NONE, LABELS[:0]), PAIR),
            r"train\[0\] has 0 rows; 1 are needed",
        ),
        (lambda: knn_accuracy((MAPS, LABELS), PAIR), r"train\[0\] has shape \(4, 2, 1\); .*: pool"),
        (
            lambda: knn_accuracy((ONES, ONES), PAIR),
            r"train\[1\] has shape \(4, 2\); expected",
        ),
        (lambda: mean_l2(MAPS, MAPS), r"before has shape \(4, 2, 1\); expected \[N, D\]: pool"),
        (lambda: mean_l2(FLAT, FLAT), r"before has shape \(4, 0\); expected \[N, D\]: pool"),
        (lambda: linear_cka(ONES, FLAT), r"after has shape \(4, 0\); expected \[N, D\]: pool"),
        (lambda: neighbor_overlap(FLAT, ONES, 1), r"before has shape \(4, 0\); expected \[N, D\]"),
        (lambda: otdd(FLAT, LABELS, FLAT, LABELS), r"before has shape \(4, 0\); expected \[N, D\]"),
        (lambda: otdd(NONE, LABELS[:0], ONES, LABELS), "before has 0 rows; 1 are needed"),
        (
            lambda: otdd(ONES, ONES, ONES, LABELS),
            r"before_labels has shape \(4, 2\); expected",
        ),
        (lambda: otdd(ONES, LABELS[:2], ONES, LABELS), "before_labels has 2 entries, and before 4"),
        (lambda: otdd(ONES, LABELS, NAN, LABELS), "after holds NaN or Inf"),
        (lambda: otdd(ONES, LABELS, torch.ones(4, 3), LABELS), "after has 3 columns, and before 2"),
        (
            lambda: otdd(ONES, LABELS, ONES, LABELS, clusters_per_class=0),
            "clusters_per_class=0 must be at least 1",
        ),
    ],
)
def test_bad_features(call: Any, words: str) -> None:
    pytest.importorskip("ot")
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("most", [2.0, True, None, "4"])
def test_clusters_are_counted_in_whole_numbers(most: Any) -> None:
    pytest.importorskip("ot")
    with pytest.raises(TypeError, match=f"clusters_per_class={most!r} must be an int"):
        otdd(ONES, LABELS, ONES, LABELS, clusters_per_class=most)


LIST: Any = [[1.0, 1.0]] * 4


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mean_l2(LIST, ONES), "before is a list, and must be a tensor .*torch.as_tensor"),
        (lambda: linear_cka(ONES, ONES.numpy()), "after is a ndarray, and must be a tensor"),  # type: ignore[arg-type]
        (lambda: neighbor_overlap(LIST, ONES, 1), "before is a list, and must be a tensor"),
        (lambda: otdd(ONES, LIST, ONES, LABELS), r"before_labels is a list, and must be .* \[N\]"),
        (lambda: knn_accuracy(LIST, PAIR), "train is a list, and must be a pair: features"),
        (lambda: knn_accuracy((LIST, LABELS), PAIR), r"train\[0\] is a list, and must be a tensor"),
        (lambda: knn_accuracy(PAIR, (ONES, LIST)), r"test\[1\] is a list, and must be a tensor"),
    ],
)
def test_features_and_labels_are_tensors(call: Any, words: str) -> None:
    pytest.importorskip("ot")
    with pytest.raises(TypeError, match=words):
        call()


@pytest.mark.parametrize("function", [drift_between, defined_drift])
def test_features_and_labels_of_other_images_are_no_missing_meaning(function: Any) -> None:
    for before, after, labels, words in (
        (ONES, ONES[:3], LABELS, "of the same N: give the features of the same images"),
        (MAPS, ONES, LABELS, r"before has shape \(4, 2, 1\); expected \[N, D\]"),
        (ONES, ONES, LABELS[:3], "labels has 3 entries, and before 4 rows: give one label a row"),
    ):
        with pytest.raises(ValueError, match=words):
            function(before, after, labels, ("l2",))
    assert defined_drift(NONE, NONE, LABELS[:0], ("l2",)) == {"l2": None}


def test_integer_labels_of_any_size_vote_alike() -> None:
    (rows, queries), labels = pair(), torch.arange(30) % 3
    expected = knn_accuracy((rows, labels), (queries, labels), 5)
    assert 0 < expected < 1
    for kind in (torch.int32, torch.uint8):
        assert knn_accuracy((rows, labels.to(kind)), (queries, labels.to(kind)), 5) == expected
