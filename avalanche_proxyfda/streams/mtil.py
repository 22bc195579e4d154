"""Data sets of MTIL and X-TAIL, with the splits of ZSCL's code or of CoOp's lists.

MTIL is the protocol of Zheng et al. (ZSCL, ICCV 2023): eleven data sets, one after the other.
X-TAIL is that of Xu et al. (RAIL, NeurIPS 2024): ten of them, with one label space.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from avalanche_proxyfda._files import expanded
from avalanche_proxyfda._names import nearest
from avalanche_proxyfda.streams.files.images import ImageFiles
from avalanche_proxyfda.streams.files.labelled import DataSet
from avalanche_proxyfda.streams.files.split_files import SplitFile, read_split_file
from avalanche_proxyfda.streams.files.splits import with_three_splits
from avalanche_proxyfda.streams.files.torchvision_sets import read_torchvision

Family = Literal["zscl", "coop"]
FAMILIES: tuple[Family, ...] = ("zscl", "coop")

_COOP: dict[str, tuple[str, tuple[str, ...]]] = {
    "Caltech101": (
        "split_zhou_Caltech101.json",
        ("caltech-101/101_ObjectCategories", "caltech101/101_ObjectCategories"),
    ),
    "DTD": ("split_zhou_DescribableTextures.json", ("dtd/images", "dtd/dtd/images")),
    "EuroSAT": ("split_zhou_EuroSAT.json", ("eurosat/2750",)),
    "Flowers102": ("split_zhou_OxfordFlowers.json", ("oxford_flowers/jpg", "flowers-102/jpg")),
    "Food101": ("split_zhou_Food101.json", ("food-101/images",)),
    "OxfordIIITPet": (
        "split_zhou_OxfordPets.json",
        ("oxford_pets/images", "oxford-iiit-pet/images"),
    ),
    "StanfordCars": ("split_zhou_StanfordCars.json", ("stanford_cars",)),
    "SUN397": ("split_zhou_SUN397.json", ("sun397/SUN397", "SUN397")),
    "UCF101": ("split_zhou_UCF101.json", ("ucf101/UCF-101-midframes",)),
}
"""Split file of each data set, and places of its images: CoOp's, then torchvision's."""
_AS_PUBLISHED = ("CIFAR100", "FGVCAircraft", "MNIST")
"""Data sets for which both families take torchvision's splits."""
SETS: dict[Family, tuple[str, ...]] = {
    "zscl": tuple(sorted({*_COOP, *_AS_PUBLISHED} - {"UCF101"})),
    "coop": tuple(sorted({*_COOP, *_AS_PUBLISHED})),
}
"""Data sets of each family of splits."""


def mtil_set(
    name: str,
    root: Path,
    family: Family,
    split_files: Path | str = "splits",
    validation_share: float = 0.1,
    seed: int = 0,
    download: bool = False,
) -> tuple[DataSet, dict[str, str]]:
    """Load a data set with the splits of a family.

    ``zscl`` has torchvision's train and test splits: DTD's first partition, the 1 020 training
    images of Flowers102, train of Aircraft and trainval of the pets. Caltech101, EuroSAT and
    SUN397 are drawn: 80 % of a permutation of seed 42 is train, by
    ``torch.utils.data.random_split``. SUN397's files are sorted by path before that, since
    torchvision lists them in the order of the file system. ``coop`` has the three lists of
    ``split_zhou_*.json``; Aircraft, CIFAR-100 and MNIST have none, and are as torchvision splits
    them.

    Args:
        name: a data set of :data:`SETS`.
        root: folder of the data sets.
        family: ``"zscl"`` or ``"coop"``.
        split_files: folder of CoOp's files; a relative one lies in ``root``.
        validation_share: share of each class's training images that become validation images
            if the family has no validation split of the data set; 0 leaves validation empty, and
            takes nothing from train.
        seed: seed of that choice.
        download: True lets torchvision download missing files.

    Returns:
        The data set, and the name and SHA-256 of its split file, empty without one.

    Raises:
        ValueError: if family or name is unknown, the share is outside [0, 0.5], or the data do
            not fit, see :func:`~avalanche_proxyfda.streams.files.split_files.read_split_file`.
        FileNotFoundError: if images or the split file are missing; names the places.

    Example:
        >>> import json
        >>> import tempfile
        >>> from pathlib import Path
        >>> from avalanche_proxyfda.streams import mtil_set
        >>> entries = {part: [[f"{part}.jpg", 0, "Forest"]] for part in ("train", "val", "test")}
        >>> with tempfile.TemporaryDirectory() as root:  # a miniature of one image a split
        ...     images, file = Path(root, "eurosat/2750"), Path(root, "split_zhou_EuroSAT.json")
        ...     images.mkdir(parents=True)
        ...     for part in entries:
        ...         (images / f"{part}.jpg").touch()
        ...     _ = file.write_text(json.dumps(entries), encoding="utf-8")
        ...     data, about = mtil_set("EuroSAT", Path(root), "coop", split_files=root)
        >>> data.classes, len(data.train), len(data.validation), len(data.test)
        (('Forest',), 1, 1, 1)
    """
    if family not in FAMILIES:
        raise ValueError(f"family={family!r} is unknown; choose one of {FAMILIES}")
    if name not in SETS[family]:
        near = nearest(name, SETS[family], 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"name={name!r} has no splits of family {family!r}; {hint}"
            f"choose among {', '.join(SETS[family])}"
        )
    if not 0 <= validation_share <= 0.5:
        raise ValueError(f"validation_share={validation_share} must lie in [0, 0.5]")
    root = expanded(root)
    about: dict[str, str] = {}
    test_rows = None
    if family == "coop" and name in _COOP:
        content = _listed_set(name, root, root / expanded(split_files))
        splits, classes = content.splits, content.classes
        about = {"split_file": content.name, "split_file_sha256": content.sha256}
        note = f"train, val and test of {content.name}"
    else:
        splits, classes = read_torchvision(name, root, download)
        note = "train and test of torchvision"
        if "all" in splits:
            if name == "SUN397":
                splits = {"all": _sorted_files(*splits["all"])}
            test_rows = drawn_test_rows(len(splits["all"][1]))
            note = "80 % and 20 %, drawn with seed 42"
    if validation_share == 0:
        splits.pop("validation", None)
        note += "; no validation"
    else:
        note += f"; validation: {'as published' if 'validation' in splits else 'of train, ours'}"
    data = with_three_splits(
        name, splits, classes, validation_share, seed, note=note, test_rows=test_rows
    )
    return data, about


def drawn_test_rows(count: int) -> list[int]:
    """Rows that ``random_split`` of ZSCL's code puts into the test split.

    >>> from avalanche_proxyfda.streams.mtil import drawn_test_rows
    >>> sorted(drawn_test_rows(10))
    [3, 7]
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(42)).tolist()
    return [int(row) for row in order[int(0.8 * count) :]]


def _listed_set(name: str, root: Path, split_files: Path) -> SplitFile:
    file, places = _COOP[name]
    folder = next((root / place for place in places if (root / place).is_dir()), None)
    if folder is None:
        raise FileNotFoundError(
            f"{name}: the images of {file} are in none of "
            f"{', '.join(str(root / place) for place in places)}"
        )
    return read_split_file(split_files / file, folder)


def _sorted_files(data: Any, labels: Sequence[int]) -> tuple[ImageFiles, list[int]]:
    """Images of SUN397 sorted by path, and their labels."""
    root = Path(data._data_dir)
    files = sorted(
        (Path(path).relative_to(root).as_posix(), label)
        for path, label in zip(data._image_files, labels, strict=True)
    )
    names, targets = [name for name, _ in files], [label for _, label in files]
    return ImageFiles([root / name for name in names], targets, names=names), targets
