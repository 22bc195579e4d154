"""Data sets of labelled images in three splits."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from avalanche_proxyfda.streams.files.images import list_hash

SPLITS = ("train", "validation", "test")


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
        image = self.source[self.rows[index]][0]
        return image.convert("RGB"), self.targets[index]

    def placed(self) -> list[tuple[str, int]]:
        """Place and label of each image; the place is ``class/file``, or the row in ``source``."""
        paths = getattr(self.source, "paths", None)

        def where(row: int) -> str:
            return str(row) if paths is None else "/".join(paths[row].parts[-2:])

        return [(where(r), label) for r, label in zip(self.rows, self.targets, strict=True)]

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
        validation: images for choosing settings.
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
                for where, label in getattr(self, split).placed()
            ]
        )
