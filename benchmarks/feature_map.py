"""Two models' features of the same images on one plane, and which neighbours were lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from avalanche_proxyfda.losses.base import check_count
from avalanche_proxyfda.losses.neighbors import NeighborGraph, unit_rows

Method = Literal["pca", "umap"]
METHODS: tuple[Method, ...] = get_args(Method)
Plane = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Projection:
    """Features on a plane that the first model's features alone decide.

    Attributes:
        before: [N, 2], of the first model.
        after: [N, 2], of the second, of the same images.
        axes: what the two axes are, to read.
    """

    before: Plane
    after: Plane
    axes: tuple[str, str]


def project(before: Tensor, after: Tensor, method: Method = "pca") -> Projection:
    """Fit a plane to ``before``, and put both there; features count by their direction.

    Args:
        before: [N, D], features of N images.
        after: [N, D], of the same images.
        method: how the plane is found; both are repeatable.

    Raises:
        ValueError: for another shape, too few images or dimensions, an unknown method, or
            features that are not finite.
        ImportError: when the method's library is not installed.
    """
    _check(before, after)
    if before.shape[1] != after.shape[1]:
        raise ValueError(
            f"before {tuple(before.shape)} and after {tuple(after.shape)} must have one width"
        )
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown; choose one of {METHODS}")
    if min(before.shape) < 2:
        raise ValueError(f"before {tuple(before.shape)}: a plane needs two images and dimensions")
    rows = [unit_rows(x.detach().double()).cpu().numpy() for x in (before, after)]
    return _pca(*rows) if method == "pca" else _umap(*rows)


def _pca(before: Plane, after: Plane) -> Projection:
    from sklearn.decomposition import PCA

    with np.errstate(invalid="ignore"):  # 0 / 0, of the variance, where all rows are the same
        fitted = PCA(n_components=2, svd_solver="full").fit(before)
    basis = fitted.components_
    # a component's sign is arbitrary: its largest entry is made positive
    largest = np.abs(basis).argmax(axis=1)
    basis = basis * np.where(basis[[0, 1], largest] < 0, -1.0, 1.0)[:, None]
    first, second = ((x - fitted.mean_) @ basis.T for x in (before, after))
    axes = [
        f"principal component {k + 1} ({100 * share:.0f} % of the pre-trained variance)"
        for k, share in enumerate(np.nan_to_num(fitted.explained_variance_ratio_))
    ]
    return Projection(first, second, (axes[0], axes[1]))


def umap_library() -> Any:
    """The module of UMAP.

    Raises:
        ImportError: when it is not installed; says how to.
    """
    try:
        import umap
    except ImportError as error:
        raise ImportError("method 'umap': it is not installed: pip install umap-learn") from error
    return umap


def _umap(before: Plane, after: Plane) -> Projection:
    near = min(15, len(before) - 1)  # 15 is the library's own
    if near < 2:
        raise ValueError(f"before has {len(before)} rows: UMAP needs three")
    fitted = umap_library().UMAP(
        n_components=2, n_neighbors=near, metric="cosine", random_state=0, n_jobs=1
    )
    # rows that it was fitted on are given the same places by transform as well
    first = fitted.fit_transform(before)
    second = fitted.transform(after)
    return Projection(
        np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64),
        ("UMAP 1, of the pre-trained features", "UMAP 2, of the pre-trained features"),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Which of each image's nearest neighbours under one model are its neighbours under another.

    Attributes:
        kept: [N] float64, share of the K that are neighbours still.
        lost: of each image, the neighbours that are none any more, the nearest first.
    """

    kept: NDArray[np.float64]
    lost: tuple[tuple[int, ...], ...]

    @property
    def mean(self) -> float:
        """Mean share kept; that of the drift ``neighbors`` for the same images and K."""
        return float(self.kept.mean())

    @property
    def torn(self) -> NDArray[np.intp]:
        """The images that lost more than half."""
        return np.flatnonzero(self.kept < 0.5)

    def worst(self, count: int) -> tuple[int, ...]:
        """At most ``count`` images that lost the most, of equals the first; none that lost none."""
        order = np.argsort(self.kept, kind="stable")[:count]
        return tuple(int(i) for i in order if self.lost[i])


def neighbors_lost(before: Tensor, after: Tensor, num_neighbors: int = 10) -> Neighbors:
    """Compare the nearest neighbours by cosine, in all dimensions, each image without itself.

    Args:
        before: [N, D].
        after: [N, D'], of the same images.
        num_neighbors: K, below N.

    Raises:
        ValueError: for other shapes, K that is not below N, or features that are not finite.
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
        tuple(j for j, kept in zip(row, marks, strict=True) if not kept)
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
