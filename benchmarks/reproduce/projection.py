"""Features of the same images under two models: one plane for both, and lost neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._tensors import unit_rows
from avalanche_proxyfda.losses.neighbors import NeighborGraph
from benchmarks.reproduce.umap_learn import umap_library

Method = Literal["pca", "umap"]
METHODS: tuple[Method, ...] = get_args(Method)
Plane = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Projection:
    """Features on a plane that is fitted to the first model's features.

    Attributes:
        before: [N, 2] places of the first model's features.
        after: [N, 2] places of the second model's features of the same images.
        axes: labels of the two axes.
    """

    before: Plane
    after: Plane
    axes: tuple[str, str]


def project(before: Tensor, after: Tensor, method: Method = "pca") -> Projection:
    """Fit a plane to ``before``, and project both feature sets onto it.

    Features are scaled to length 1 first. The same features give the same plane.

    Args:
        before: [N, D] features of N images under the first model.
        after: [N, D] features of the same images under the second model.
        method: ``"pca"``, or ``"umap"``, which needs umap-learn.

    Raises:
        ValueError: if shapes differ, there are too few images or dimensions, the method is
            unknown, or a feature is not finite.
        ImportError: if the library of the method is not installed.
    """
    _check(before, after)
    if before.shape[1] != after.shape[1]:
        raise ValueError(
            f"before {tuple(before.shape)} and after {tuple(after.shape)} must have one width"
        )
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown; choose one of {METHODS}")
    if min(before.shape) < 2:
        raise ValueError(
            f"before {tuple(before.shape)}: a plane needs two images and dimensions at least"
        )
    rows = [unit_rows(x.detach().double()).cpu().numpy() for x in (before, after)]
    return _pca(*rows) if method == "pca" else _umap(*rows)


def _pca(before: Plane, after: Plane) -> Projection:
    from sklearn.decomposition import PCA

    with np.errstate(invalid="ignore"):  # 0 / 0 in the variance if all rows are equal
        fitted = PCA(n_components=2, svd_solver="full").fit(before)
    basis = fitted.components_
    # the sign of a component is arbitrary: make its largest entry positive
    largest = np.abs(basis).argmax(axis=1)
    basis = basis * np.where(basis[[0, 1], largest] < 0, -1.0, 1.0)[:, None]
    first, second = ((x - fitted.mean_) @ basis.T for x in (before, after))
    axes = [
        f"principal component {k + 1} ({100 * share:.0f} % of the pre-trained variance)"
        for k, share in enumerate(np.nan_to_num(fitted.explained_variance_ratio_))
    ]
    return Projection(first, second, (axes[0], axes[1]))


def _umap(before: Plane, after: Plane) -> Projection:
    near = min(15, len(before) - 1)  # 15 is the default of the library
    if near < 2:
        raise ValueError(f"before has {len(before)} rows: UMAP needs three at least")
    fitted = umap_library().UMAP(
        n_components=2, n_neighbors=near, metric="cosine", random_state=0, n_jobs=1
    )
    # transform gives the fitted rows the same places as fit_transform
    first = fitted.fit_transform(before)
    second = fitted.transform(after)
    return Projection(
        np.asarray(first, dtype=np.float64),
        np.asarray(second, dtype=np.float64),
        ("UMAP 1, of the pre-trained features", "UMAP 2, of the pre-trained features"),
    )


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Nearest neighbours under one model that remain, or are lost, under another model.

    Attributes:
        kept: [N] float64 in [0, 1], share of an image's K neighbours that remain.
        lost: lost neighbours of each image, the nearest first.
    """

    kept: NDArray[np.float64]
    lost: tuple[tuple[int, ...], ...]

    @property
    def mean(self) -> float:
        """Mean share that remains; equals the drift measure ``neighbors`` for the same K."""
        return float(self.kept.mean())

    @property
    def torn(self) -> NDArray[np.intp]:
        """Indices of the images that lost more than half of their neighbours."""
        return np.flatnonzero(self.kept < 0.5)

    def worst(self, count: int) -> tuple[int, ...]:
        """Indices of at most ``count`` images that lost the most neighbours; ties by index.

        Images that lost no neighbour are left out.
        """
        order = np.argsort(self.kept, kind="stable")[:count]
        return tuple(int(i) for i in order if self.lost[i])


def neighbors_lost(before: Tensor, after: Tensor, num_neighbors: int = 10) -> Neighbors:
    """Compare the nearest neighbours of each image, by cosine similarity, without the image.

    Args:
        before: [N, D] features of N images under the first model.
        after: [N, D'] features of the same images under the second model.
        num_neighbors: K, number of neighbours, below N.

    Raises:
        ValueError: if the numbers of rows differ, K is not below N, or a feature is not
            finite.
    """
    _check(before, after)
    if check_count("num_neighbors", num_neighbors, 1) >= len(before):
        raise ValueError(
            f"num_neighbors={num_neighbors} must be below the number of images, {len(before)}"
        )
    first, second = (
        NeighborGraph.of(x.detach().double().cpu(), num_neighbors) for x in (before, after)
    )
    nearest, _ = first.sets()
    still = second.is_neighbor().gather(1, nearest).tolist()
    lost = tuple(
        tuple(j for j, remains in zip(row, marks, strict=True) if not remains)
        for row, marks in zip(nearest.tolist(), still, strict=True)
    )
    return Neighbors(1 - np.array([len(row) for row in lost]) / num_neighbors, lost)


def _check(before: Tensor, after: Tensor) -> None:
    if before.ndim != 2 or after.ndim != 2 or len(before) != len(after) or not len(before):
        shapes = tuple(before.shape), tuple(after.shape)
        raise ValueError(f"before {shapes[0]} and after {shapes[1]} must be [N, D] of the same N")
    for name, x in (("before", before), ("after", after)):
        if not bool(x.isfinite().all()):
            raise ValueError(f"{name} holds NaN or Inf")
