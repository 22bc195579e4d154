"""Sizes and boxes of views: how an image is resized, and which part of it is seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Box = tuple[int, int, int, int, int]
"""Top, left, height and width in pixels, and 1 for a mirrored image, else 0."""


@dataclass(frozen=True)
class Resizing:
    """Resizes an image and crops its centre, as torchvision's ``Resize`` and ``CenterCrop``.

    Attributes:
        short: pixels of the shorter side after the resize.
        side: side of the square centre.
        squash: True resizes both sides to ``short``, whatever the image's shape.

    Raises:
        ValueError: for a side below 1, or above ``short``.

    Example:
        >>> from avalanche_proxyfda.pixels import Resizing
        >>> Resizing(256, 224).resized(375, 500)
        (256, 341)
    """

    short: int
    side: int
    squash: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.side <= self.short:
            raise ValueError(
                f"side={self.side} must lie between 1 and short={self.short}: a centre that is "
                "larger than the image would be padded; take pipeline='pil'"
            )

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after the resize."""
        if self.squash:
            return self.short, self.short
        long = int(self.short * max(height, width) / min(height, width))
        return (self.short, long) if height <= width else (long, self.short)

    def corner(self, height: int, width: int) -> tuple[int, int]:
        """Return top and left of the centre in an image of that size."""
        return round((height - self.side) / 2.0), round((width - self.side) / 2.0)

    def rows(self) -> Resizing:
        """Return the resizing of stored rows for random crops: the centre square, 8/7 as large.

        Example:
            >>> from avalanche_proxyfda.pixels import Resizing
            >>> Resizing(224, 224).rows()
            Resizing(short=256, side=256, squash=False)
        """
        side = round(self.side * 8 / 7)
        return Resizing(side, side, self.squash)

    def centre_of(self, rows: Resizing) -> Box:
        """Return the box in stored rows that shows the part that this resizing shows."""
        size = round(rows.side * self.side / self.short)
        start = (rows.side - size) // 2
        return start, start, size, size, 0


@dataclass(frozen=True)
class RandomCrop:
    """Draws boxes like torchvision's ``RandomResizedCrop`` and ``RandomHorizontalFlip``.

    Attributes:
        scale: range of the box's share of the area.
        ratio: range of the box's width over its height.
        flip: True mirrors half of the images.

    Raises:
        ValueError: for a range that is empty or not positive.

    Example:
        >>> from avalanche_proxyfda.pixels import RandomCrop
        >>> crop = RandomCrop(scale=(0.25, 0.25), ratio=(1.0, 1.0))  # squares
        >>> crop.box(100, 100, uniform=lambda: 0.5)
        (25, 25, 50, 50, 0)
    """

    scale: tuple[float, float]
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = False

    def __post_init__(self) -> None:
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}={(low, high)} must be a range of positive numbers")

    def box(self, height: int, width: int, uniform: Callable[[], float]) -> Box:
        """Draw a box in an image of that size.

        Args:
            height: height of the image.
            width: width of the image.
            uniform: draws numbers of [0, 1).
        """
        found = self._drawn(height, width, uniform) or self._central(height, width)
        return (*found, int(self.flip and uniform() < 0.5))

    def _drawn(
        self, height: int, width: int, uniform: Callable[[], float]
    ) -> tuple[int, int, int, int] | None:
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area = height * width * (self.scale[0] + uniform() * (self.scale[1] - self.scale[0]))
            ratio = math.exp(low + uniform() * (high - low))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int(uniform() * (height - h + 1)), int(uniform() * (width - w + 1)), h, w
        return None

    def _central(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the largest central box whose ratio is in range, as torchvision does."""
        w, h = width, height
        if width / height < self.ratio[0]:
            h = round(width / self.ratio[0])
        elif width / height > self.ratio[1]:
            w = round(height * self.ratio[1])
        return (height - h) // 2, (width - w) // 2, h, w
