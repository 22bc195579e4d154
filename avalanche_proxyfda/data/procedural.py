"""Images of a generator with the spectra of photographs: leaves, textures, gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._random import mixed_seed

Floats = NDArray[np.float32]
_LEAVES = 128  # discs of an image; fewer than these are seen


class ProceduralImages(Dataset[Any]):
    """Images for reference data of those who have none; each depends on (seed, number) alone.

    Three kinds take turns. *Dead leaves* are discs that hide each other, with radii of density
    r^-3: edges and occlusions at all scales (Lee et al., 2001). *Textures* are noise with the
    amplitude f^-a, a from 0.8 to 1.6, as photographs have about f^-1 (Field, 1987). *Gradients*
    blend a few colours smoothly. Such images pre-train networks without photographs (Baradad
    et al., NeurIPS 2021).

    Args:
        count: number of images.
        size: side in pixels.
        seed: seed of all images.
        transform: takes an RGB image of PIL, such as an evaluation view; None gives the image.

    Raises:
        TypeError, ValueError: for a number out of range.

    Example:
        >>> from avalanche_proxyfda import ProceduralImages
        >>> images = ProceduralImages(3, size=16)
        >>> images.pixels(0).shape, images.pixels(0).dtype, images[2].size
        ((16, 16, 3), dtype('uint8'), (16, 16))
    """

    def __init__(
        self,
        count: int,
        size: int = 64,
        seed: int = 0,
        transform: Callable[[Image.Image], Any] | None = None,
    ) -> None:
        self.count = check_count("count", count, 1)
        self.size = check_count("size", size, 4)
        self.seed = check_count("seed", seed, 0)
        self.transform = transform

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Any:
        image = Image.fromarray(self.pixels(number))
        return image if self.transform is None else self.transform(image)

    def pixels(self, number: int) -> NDArray[np.uint8]:
        """Return an image, uint8 [H, W, 3].

        Raises:
            IndexError: for a number outside [0, count).
        """
        if not 0 <= number < self.count:
            raise IndexError(f"image {number} of {self.count}")
        random = np.random.default_rng(mixed_seed("procedural", self.seed, number))
        make = (_dead_leaves, _texture, _gradient)[number % 3]
        return (make(random, self.size).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _colours(random: np.random.Generator, count: int) -> Floats:
    """Return ``count`` colours around the colour of a scene, [count, 3]."""
    scene = random.uniform(0.2, 0.8, 3)
    light = random.normal(0, 0.22, (count, 1))  # photographs differ in light more than in hue
    return (scene + light + random.normal(0, 0.08, (count, 3))).astype(np.float32)


def _axes(size: int) -> tuple[Floats, Floats]:
    """Return the coordinates of rows [H, 1] and of columns [1, W], in [0, 1)."""
    axis: Floats = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return axis[:, None], axis[None, :]


def _dead_leaves(random: np.random.Generator, size: int) -> Floats:
    rows, columns = _axes(size)
    least, most = 1.5 / size, 0.5
    share = random.random(_LEAVES)
    radii = (least**-2 - share * (least**-2 - most**-2)) ** -0.5  # density r^-3
    radii[: _LEAVES // 8] = random.uniform(0.05, most, _LEAVES // 8)  # small ones cover little
    radii = random.permutation(radii).astype(np.float32)
    radii[-1] = 2  # the ground
    places = random.random((_LEAVES, 2)).astype(np.float32)
    down = (rows.T - places[:, :1]) ** 2 - radii[:, None] ** 2
    across = (columns - places[:, 1:]) ** 2
    seen = np.full((size, size), _LEAVES - 1)
    for leaf in range(_LEAVES - 2, -1, -1):  # the topmost disc comes last
        (top, bottom), (left, right) = (
            (max(0, int((at - radii[leaf]) * size)), int((at + radii[leaf]) * size) + 1)
            for at in places[leaf]
        )
        inside = down[leaf, top:bottom, None] + across[leaf, left:right] <= 0
        seen[top:bottom, left:right][inside] = leaf
    shade = random.normal(0, 0.15, (_LEAVES, 2, 1)).astype(np.float32)[seen]
    light = shade[:, :, 0] * (rows - 0.5)[:, :, None] + shade[:, :, 1] * (columns - 0.5)[:, :, None]
    image: Floats = _colours(random, _LEAVES)[seen] + light
    return image + 0.01 * random.standard_normal(image.shape, dtype=np.float32)


def _texture(random: np.random.Generator, size: int) -> Floats:
    across = np.fft.rfftfreq(size)[None, :]
    down = np.fft.fftfreq(size)[:, None] * random.uniform(0.5, 2)  # streaks of one direction
    frequency = np.sqrt(down**2 + across**2)
    frequency[0, 0] = 1
    amplitude = frequency ** -random.uniform(0.8, 1.6)
    amplitude[0, 0] = 0
    parts = random.standard_normal((2, 3, *frequency.shape))
    noise = np.fft.irfft2((parts[0] + 1j * parts[1]) * amplitude, (size, size))
    noise /= noise.std(axis=(1, 2), keepdims=True) + 1e-6
    mixed = np.tensordot(noise, np.eye(3) * 0.35 + 0.65 * random.random((3, 1)), axes=(0, 0))
    scene: Floats = random.uniform(0.3, 0.7, 3).astype(np.float32)
    return scene + random.uniform(0.08, 0.22) * mixed.astype(np.float32)


def _gradient(random: np.random.Generator, size: int) -> Floats:
    rows, columns = _axes(size)
    count = int(random.integers(2, 6))
    places = random.uniform(-0.2, 1.2, (count, 2, 1, 1)).astype(np.float32)
    distance = (rows - places[:, 0]) ** 2 + (columns - places[:, 1]) ** 2
    sharp = random.uniform(4, 60)  # from a soft blend to regions with edges
    weight = np.exp(-sharp * (distance - distance.min(axis=0)))
    weight /= weight.sum(axis=0)
    image: Floats = np.tensordot(weight, _colours(random, count), axes=(0, 0)).astype(np.float32)
    return image + 0.015 * random.standard_normal(image.shape, dtype=np.float32)
