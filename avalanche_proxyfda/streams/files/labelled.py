"""Data sets of labelled images in three splits."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from avalanche_proxyfda.streams.files.images import (
    DAMAGE,
    ImageFiles,
    UnreadableImage,
    list_hash,
)

SPLITS = ("train", "validation", "test")
_FILES = ("paths", "samples", "_samples", "_image_files", "_images")
"""Attributes of :class:`ImageFiles` and of torchvision's data sets that list files."""


@dataclass(frozen=True, eq=False)
class Labelled(Dataset[tuple[Any, int]]):
    """Rows of a data set: RGB images of PIL with labels from 0.

    Attributes:
        source: data set with all rows.
        rows: [N] rows of ``source``.
        targets: [N] labels.
    """

    source: Any
    rows: tuple[int, ...]
    targets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        row = self.rows[index]
        try:
            image = self.source[row][0].convert("RGB")
        except UnreadableImage:
            raise
        except DAMAGE as error:  # torchvision's own readers name no file
            where = self.file(index) or f"{type(self.source).__name__}, image {row}"
            raise UnreadableImage(f"{where}: {error or type(error).__name__}") from error
        return image, self.targets[index]

    def file(self, index: int) -> Path | None:
        """File of an image; None for images of a pack or an array."""
        for name in _FILES:
            listed = getattr(self.source, name, None)
            if listed is not None:
                entry = listed[self.rows[index]]
                place = entry[0] if isinstance(entry, tuple) else entry
                return Path(place) if isinstance(place, (str, Path)) else None  # or pixels
        return None

    def place(self, index: int) -> str:
        """Place of one image, see :meth:`placed`; files of torchvision's data sets are named."""
        row, file = self.rows[index], self.file(index)
        if isinstance(self.source, ImageFiles):
            return self.source.names[row]
        return str(row) if file is None else "/".join(file.parts[-2:])

    def placed(self) -> list[tuple[str, int]]:
        """Place and label of each image; the place is ``class/file``, or the row in ``source``."""
        return self._with_labels("names")

    def identified(self) -> list[tuple[str, int]]:
        """Identity and label of each image; the identity is the place, or a hash of content."""
        return self._with_labels("keys")

    def _with_labels(self, names: str) -> list[tuple[str, int]]:
        named = getattr(self.source, names) if isinstance(self.source, ImageFiles) else None
        texts = (str(row) if named is None else named[row] for row in self.rows)
        return list(zip(texts, self.targets, strict=True))

    def without(self, places: Container[int]) -> Labelled:
        """The images that are not at ``places``."""
        rest = [k for k in range(len(self)) if k not in places]
        return Labelled(
            self.source, tuple(self.rows[k] for k in rest), tuple(self.targets[k] for k in rest)
        )


@dataclass(frozen=True, eq=False)
class DataSet:
    """One data set.

    Attributes:
        name: name by which it was loaded.
        classes: class names by label.
        train: training images, without the validation images.
        validation: images for choosing settings; there may be none.
        test: images for reported numbers.
        note: origin of the validation and test splits.
    """

    name: str
    classes: tuple[str, ...]
    train: Labelled
    validation: Labelled
    test: Labelled
    note: str

    @property
    def sha256(self) -> str:
        """Identity of the splits: a hash over the images in each split and their labels."""
        return list_hash(
            [
                f"{split} {where} {label}"
                for split in SPLITS
                for where, label in getattr(self, split).identified()
            ]
        )
