"""Hidden files and folders among torchvision's data sets: left out, as in every folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torchvision.datasets import folder as torchvision_folder

from avalanche_proxyfda.streams.files.visible import files_in, folders_in, is_visible


@contextmanager
def visible_classes() -> Iterator[None]:
    """Let torchvision see only visible folders as classes; GTSRB has no option for it."""
    original = torchvision_folder.find_classes

    def visible(directory: str | Path) -> tuple[list[str], dict[str, int]]:
        names = folders_in(Path(directory))
        if not names:
            raise FileNotFoundError(
                f"there is no class folder in {directory}: put the images of each class into a "
                "folder of its own"
            )
        return names, {name: k for k, name in enumerate(names)}

    torchvision_folder.find_classes = visible
    try:
        yield
    finally:
        torchvision_folder.find_classes = original


def leave_out_hidden(name: str, data: Any) -> None:
    """Remove hidden files from ``data``; a data set without hidden files stays as it is.

    Args:
        name: name of the data set among torchvision's.
        data: the data set of torchvision, which is changed.
    """
    if name in ("EuroSAT", "Country211"):
        root = data._data_folder if name == "EuroSAT" else data._base_folder
        data.samples = data.imgs = _visible(data.samples, Path(root))
        data.targets = [label for _, label in data.samples]
    elif name in ("GTSRB", "RenderedSST2"):
        data._samples = _visible(data._samples, Path(data._base_folder))
    elif name == "Caltech101":
        _caltech(data)


def _visible(samples: list[tuple[str, int]], root: Path) -> list[tuple[str, int]]:
    return [
        (path, label)
        for path, label in samples
        if all(is_visible(part) for part in Path(path).relative_to(root).parts)
    ]


def _caltech(data: Any) -> None:
    kept = [k for k, name in enumerate(data.categories) if is_visible(name)]
    data.categories = [data.categories[k] for k in kept]
    data.annotation_categories = [data.annotation_categories[k] for k in kept]
    data.index, data.y = [], []
    for label, name in enumerate(data.categories):
        count = len(files_in(Path(data.root) / "101_ObjectCategories" / name))
        data.index.extend(range(1, count + 1))
        data.y.extend(count * [label])
