"""The plane of two models' features, the neighbours that were lost, and the figure."""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avalanche_proxyfda.metrics import neighbor_overlap
from benchmarks.reproduce.figure import Words, draw, saved
from benchmarks.reproduce.projection import Neighbors, neighbors_lost, project
from tests.reference import feature_map as reference


def rows(count: int, width: int, seed: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("count", "width", "k"), [(2, 1, 1), (12, 5, 3), (40, 7, 10), (9, 3, 8)])
def test_neighbors_lost_are_those_of_the_definition(count: int, width: int, k: int) -> None:
    before = rows(count, width, 0)
    after = before + 0.7 * rows(count, width, 1)
    found = neighbors_lost(before, after, k)
    kept, lost = reference.neighbors_lost(before.double().numpy(), after.double().numpy(), k)
    np.testing.assert_allclose(found.kept, kept)
    assert [list(row) for row in found.lost] == lost
    assert found.mean == pytest.approx(neighbor_overlap(before, after, k))
    assert found.torn.tolist() == [i for i, share in enumerate(kept) if share < 0.5]


def test_the_worst_are_those_that_lost_the_most() -> None:
    found = Neighbors(np.array([0.5, 1.0, 0.0, 0.5, 1.0]), ((1,), (), (0, 1), (0,), ()))
    assert found.worst(2) == (2, 0) and found.worst(5) == (2, 0, 3)
    assert found.torn.tolist() == [2]


def test_nothing_is_lost_by_features_that_stay_or_turn_or_grow() -> None:
    before = rows(30, 6, 0)
    turn = torch.linalg.qr(rows(6, 6, 1).double())[0]
    for after in (before, before.clone(), 3 * before, before.double() @ turn):
        found = neighbors_lost(before, after, 5)
        assert found.mean == 1 and not any(found.lost) and not found.worst(5)
    plane = project(before, before.clone())
    np.testing.assert_array_equal(plane.before, plane.after)


def test_the_plane_is_fitted_to_the_first_features_alone() -> None:
    before = rows(30, 6, 0)
    first, second = (project(before, rows(30, 6, seed)) for seed in (1, 2))
    np.testing.assert_array_equal(first.before, second.before)
    assert first.axes == second.axes and not np.array_equal(first.after, second.after)
    unit = before.double().numpy()
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    _, spread, basis = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    expected = (unit - unit.mean(axis=0)) @ basis[:2].T
    for k in range(2):
        sign = 1 if basis[k][np.abs(basis[k]).argmax()] > 0 else -1
        np.testing.assert_allclose(first.before[:, k], sign * expected[:, k], atol=1e-12)
    share = 100 * spread[0] ** 2 / (spread**2).sum()
    assert first.axes[0].startswith(f"principal component 1 ({share:.0f} %")


@pytest.mark.parametrize(
    ("before", "after", "k", "words"),
    [
        (rows(4, 3, 0), rows(5, 3, 0), 2, "must be [N, D] of the same N"),
        (rows(4, 3, 0)[0], rows(4, 3, 0)[0], 2, "must be [N, D] of the same N"),
        (rows(0, 3, 0), rows(0, 3, 0), 1, "must be [N, D] of the same N"),
        (rows(4, 3, 0), rows(4, 3, 0).log(), 2, "after holds NaN or Inf"),
        (rows(4, 3, 0), rows(4, 3, 0), 4, "num_neighbors=4 must be below"),
        (rows(4, 3, 0), rows(4, 3, 0), 0, "num_neighbors=0 must be at least 1"),
    ],
)
def test_bad_features_are_refused(before: Tensor, after: Tensor, k: int, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        neighbors_lost(before, after, k)


def test_features_that_make_no_plane_are_refused() -> None:
    for before, after in ((rows(4, 3, 0), rows(4, 2, 0)), (rows(4, 1, 0), rows(4, 1, 0))):
        with pytest.raises(ValueError, match=r"one width|two images and dimensions"):
            project(before, after)
    with pytest.raises(ValueError, match="method='tsne' is unknown"):
        project(rows(4, 3, 0), rows(4, 3, 0), "tsne")  # type: ignore[arg-type]
    still = torch.ones(5, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(project(still, still).before).all()


def test_umap_is_fitted_to_the_first_features_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Fake:
        def __init__(self, **options: Any) -> None:
            asked.update(options)

        def fit_transform(self, x: Any) -> Any:
            asked["fitted"] = x
            return x[:, :2].astype(np.float32)

        def transform(self, x: Any) -> Any:
            return 2 * x[:, :2]

    monkeypatch.setitem(sys.modules, "umap", argparse.Namespace(UMAP=Fake))
    before, after = rows(8, 3, 0), rows(8, 3, 1)
    plane = project(before, after, "umap")
    assert asked["random_state"] == 0 and asked["metric"] == "cosine" and asked["n_neighbors"] == 7
    np.testing.assert_allclose(np.linalg.norm(asked["fitted"], axis=1), 1)
    np.testing.assert_allclose(plane.before, asked["fitted"][:, :2], atol=1e-6)
    unit = (after / after.norm(dim=1, keepdim=True)).numpy()
    np.testing.assert_allclose(plane.after, 2 * unit[:, :2], atol=1e-6)


@pytest.mark.parametrize("classes", [2, 12, 40])
def test_the_figure_has_a_legend_where_classes_are_few(classes: int) -> None:
    before, after = rows(60, 4, 0), rows(60, 4, 1)
    words = Words("all of it", ("first model", "second model"), "what the rings are")
    names = [f"a class with the long name {k}" for k in range(classes)]
    figure = draw(
        project(before, after),
        neighbors_lost(before, after, 5),
        [k % classes for k in range(60)],
        names,
        words,
    )
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 2 + (classes if classes <= 12 else 0)
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()
    assert [axes.get_title() for axes in figure.axes] == list(words.panels)
    assert any(words.caption in text.get_text() for text in figure.texts)
    assert {kind: len(content) > 10**4 for kind, content in saved(figure).items()} == {
        "png": True,
        "svg": True,
    }


def test_names_are_no_mathematics() -> None:
    before, after = rows(20, 4, 0), rows(20, 4, 1)
    odd = r"$\frac$"  # matplotlib would stop at it
    figure = draw(
        project(before, after),
        neighbors_lost(before, after, 5),
        [0, 1] * 10,
        [odd, "b"],
        Words(odd, (odd, odd), odd),
    )
    assert saved(figure)["svg"]
