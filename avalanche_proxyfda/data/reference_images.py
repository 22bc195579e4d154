"""Images for reference data: any folder, a pack, or a data set of torchvision."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset

from avalanche_proxyfda._files import expanded
from avalanche_proxyfda._names import nearest
from avalanche_proxyfda.streams.files.content import identify_by_content
from avalanche_proxyfda.streams.files.image_names import ENDINGS, is_image_name
from avalanche_proxyfda.streams.files.images import ImageFiles, absent, list_hash
from avalanche_proxyfda.streams.files.packs import read_pack
from avalanche_proxyfda.streams.files.torchvision_sets import TORCHVISION, read_torchvision
from avalanche_proxyfda.streams.files.visible import files_below

Transform = Callable[[Image.Image], Any]


class ViewedImages(Dataset[Any]):
    """The images of a data set through a view; labels are dropped.

    Args:
        data: a data set of pairs that begin with an image of PIL.
        transform: the view, such as the evaluation view of a backbone.
        sha256: identity of the images.
    """

    def __init__(self, data: Any, transform: Transform, sha256: str = "") -> None:
        self.data, self.transform, self.sha256 = data, transform, sha256

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, number: int) -> Any:
        return self.transform(self.data[number][0])


def image_folder(folder: str | os.PathLike[str], transform: Transform) -> ViewedImages:
    """Return all images in a folder and below it, at any depth, in the order of their names.

    Args:
        folder: a folder; ``~`` is the home folder. Hidden files and folders are skipped.
        transform: takes an RGB image of PIL, and gives a float tensor [C, H, W].

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: for a folder without images, or with a link to a file that is missing.
    """
    root = expanded(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder of reference images at {root}: check the path")
    files = files_below(root)
    paths = [path for path in files if is_image_name(path.name)]
    if not paths:
        raise ValueError(
            f"{root} holds no image among {len(files)} files: give a folder with "
            f"{', '.join(sorted(ENDINGS))}"
        )
    names = [path.relative_to(root).as_posix() for path in paths]
    data = ImageFiles(paths, [0] * len(paths), names=names)
    gone = next((path for path in paths if not path.is_file()), None)
    if gone is not None:
        raise ValueError(f"{absent(gone)}: restore or remove it")
    identify_by_content(data, root.name)
    return ViewedImages(data, transform, list_hash(data.keys))


def image_pack(path: str | os.PathLike[str], transform: Transform) -> ViewedImages:
    """Return the training images of a pack, an ``.npz`` file.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if the file is no pack, or has no training image.
    """
    place = Path(expanded(path))
    train, *_ = read_pack(place)
    if len(train) == 0:
        raise ValueError(
            f"{place} has no training image, and reference images are training images: give a "
            "pack with a training part"
        )
    parts = (train.buffer[a:b].tobytes() for a, b in pairwise(train.offsets))
    lines = [hashlib.sha256(part).hexdigest() for part in parts]
    return ViewedImages(train, transform, list_hash(lines))


def torchvision_images(
    name: str, root: str | os.PathLike[str], transform: Transform, download: bool = False
) -> ViewedImages:
    """Return the training images of a data set of torchvision.

    Args:
        name: a key of :data:`~avalanche_proxyfda.streams.files.torchvision_sets.TORCHVISION`.
        root: folder of the data sets.
        transform: takes an RGB image of PIL, and gives a float tensor [C, H, W].
        download: True lets torchvision download missing files.

    Raises:
        ValueError: for an unknown name; the message lists near names.
        FileNotFoundError: if the data set is not under ``root``.
    """
    if name not in TORCHVISION:
        near = nearest(name, TORCHVISION) or list(TORCHVISION)
        raise ValueError(f"{name!r} is no data set of torchvision; near names: {', '.join(near)}")
    splits, _ = read_torchvision(name, Path(expanded(root)), download)
    data, labels = splits["train"] if "train" in splits else next(iter(splits.values()))
    lines = [name, *map(str, labels)]
    return ViewedImages(_AsRGB(data), transform, list_hash(lines))


class _AsRGB(Dataset[Any]):
    """Pairs of a data set with the image in RGB."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, number: int) -> Any:
        image, label = self.data[number]
        return image.convert("RGB"), label
