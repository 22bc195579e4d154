"""Split ImageNet-R: 200 classes of renditions, learnt one group of classes at a time."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from avalanche_proxyfda._files import expanded
from avalanche_proxyfda._names import nearest
from avalanche_proxyfda.streams.files.archives import extract, is_extracted
from avalanche_proxyfda.streams.files.encoded import for_view
from avalanche_proxyfda.streams.files.folder_parts import listed
from avalanche_proxyfda.streams.files.image_names import is_image_name
from avalanche_proxyfda.streams.files.images import MAX_PIXELS, ImageFiles, scan
from avalanche_proxyfda.streams.files.visible import files_in, folders_in
from avalanche_proxyfda.streams.imagenet_r_splits import (
    CLASSES,
    CODA_COUNTS,
    IMAGES,
    Lists,
    check_lists,
    class_folders,
    coda,
    hash80,
    held_out,
    is_split,
    presplit,
    split_folders,
)

SplitName = Literal["hash80", "coda", "presplit"]
OnCorrupt = Literal["raise", "drop"]
Order = str | Sequence[int]


def class_order(order: Order, lists: Lists) -> list[int]:
    """Class ids in the order of learning; a class id is an index into the sorted WordNet ids.

    Args:
        order: ``"pilot-SEED"``: NumPy's legacy permutation, as in the PILOT family, whose
            default is 1993. ``"coda-RUN"``: Python's shuffle of CODA-Prompt's class numbers,
            unshuffled in run 0; needs CODA-Prompt's lists. ``"identity"``: sorted. Or all class
            ids.
        lists: split of the data set.

    Raises:
        ValueError: if the name is unknown, or the ids do not hold each class once.
    """
    count = len(lists.wnids)
    if not isinstance(order, str):
        ids = [int(k) for k in order]
        if sorted(ids) != list(range(count)):
            raise ValueError(f"order must hold each class id from 0 to {count - 1} once")
        return ids
    if order == "identity":
        return list(range(count))
    kind, _, number = order.partition("-")
    if kind not in ("pilot", "coda") or not number.isdigit():
        raise ValueError(
            f"order={order!r} is unknown; choose 'pilot-SEED' (as 'pilot-1993'), 'coda-RUN', "
            "'identity', or give all class ids"
        )
    if kind == "pilot":
        legacy = np.random.RandomState(int(number))
        return [int(k) for k in legacy.permutation(count)]
    if lists.coda_ids is None:
        raise ValueError(f"order={order!r} is over CODA-Prompt's class numbers: use split='coda'")
    numbers = list(range(count))
    if int(number) > 0:
        random.Random(int(number)).shuffle(numbers)
    id_of = {number: class_id for class_id, number in enumerate(lists.coda_ids)}
    return [id_of[k] for k in numbers]


def find_root(root: Path | str) -> Path:
    """Return the folder with the class folders, or with ``train`` and ``test``.

    An archive is extracted first.

    Raises:
        FileNotFoundError: if there is no such folder at ``root``; the message lists what is
            there.
        ValueError: if the archive is damaged or unsafe.
    """
    root = expanded(root)
    if root.is_file():
        into = root.with_name(_stem(root.name) + "-extracted")
        root = into if is_extracted(root, into) else extract(root, into)
    inner = [root, root / "imagenet-r", root / "imagenet-r" / "imagenet-r"]
    inner += [path for path in _only_folders(root) if path not in inner]
    for folder in inner:
        if folder.is_dir() and (class_folders(folder) or is_split(folder)):
            return folder
    if not root.exists():
        near = nearest(_stem(root.name), _beside(root), cutoff=0.7)
        raise FileNotFoundError(
            f"root={str(root)!r} does not exist"
            + (f"; is it {' or '.join(near)}, which lies there?" if near else "")
            + f": give imagenet-r.tar or .zip, the folder imagenet-r/ with {CLASSES} folders "
            "called n01443537 and so on, or a folder with train/ and test/ or val/"
        )
    inside = listed(folders_in(root), "/") if root.is_dir() else ""
    raise FileNotFoundError(
        f"root={str(root)!r} holds no folder called like n01443537, and no train/ with test/ or "
        f"val/ of such folders; it holds {inside or 'no folder'}: give the folder that has them"
    )


def _stem(name: str) -> str:
    """Name of an archive without its endings."""
    for ending in (".tar.gz", ".tar", ".tgz", ".zip"):
        name = name.removesuffix(ending)
    return name


def _beside(root: Path) -> list[str]:
    """Names of the visible folders and archives beside ``root``."""
    if not root.parent.is_dir():
        return []
    archives = (path.name for path in files_in(root.parent) if _stem(path.name) != path.name)
    return [*folders_in(root.parent), *archives]


def _only_folders(root: Path) -> list[Path]:
    """The only folder in ``root``, and the only folder in that, as archives often have them."""
    chain: list[Path] = []
    while len(chain) < 3 and root.is_dir() and len(names := folders_in(root)) == 1:
        root = root / names[0]
        chain.append(root)
    return chain


def image_paths(root: Path | str) -> list[Path]:
    """Paths of all images under the class folders of ``root``, in whichever split they are."""
    folder = find_root(root)
    parts = list(split_folders(folder)) if is_split(folder) else [folder]
    return [
        path
        for part in parts
        for wnid in class_folders(part)
        for path in sorted((part / wnid).iterdir())
        if is_image_name(path.name)
    ]


def split_imagenet_r(
    root: Path | str,
    num_experiences: int = 10,
    split: SplitName | None = None,
    order: Order = "pilot-1993",
    lists: tuple[Path | str, Path | str] | None = None,
    train_transform: Callable[[Any], Any] | None = None,
    eval_transform: Callable[[Any], Any] | None = None,
    on_corrupt: OnCorrupt = "raise",
    max_pixels: int = MAX_PIXELS,
    classes: int = CLASSES,
    validation_share: float = 0.0,
) -> Any:
    """Build an Avalanche benchmark of ImageNet-R in ``num_experiences`` groups of classes.

    Labels count in the order of learning. There are no task labels, so one growing head fits.
    The benchmark's ``summary`` lists its contents. Its ``validation_stream`` has the held-out
    training images, or is None. Its ``image_files`` are the images by split, with class ids.

    Args:
        root: ``imagenet-r.tar`` or ``.zip``, a folder with 200 class folders, or a folder with
            ``train/`` and ``test/``; ``val/`` is the test split where there is no ``test/``.
        num_experiences: number of groups, a divisor of the number of classes; 10 is usual.
        split: ``"presplit"``: the split of ``train/`` and ``test/``. ``"coda"``: CODA-Prompt's
            lists. ``"hash80"``: our own (:func:`hash80`). None: ``presplit`` if ``root`` has
            ``train/`` and ``test/``, else ``hash80``.
        order: see :func:`class_order`.
        lists: CODA-Prompt's YAML files of train and test.
        train_transform: training view of RGB images of PIL, or a view with a method ``source``,
            see :func:`~avalanche_proxyfda.streams.files.encoded.for_view`.
        eval_transform: evaluation view of RGB images of PIL.
        on_corrupt: ``"raise"``: reading a broken image raises an error with its path.
            ``"drop"``: all images are read once first, and broken ones are left out and listed
            in the summary.
        max_pixels: largest number of pixels of an image; larger images are broken.
        classes: required number of classes; smaller for miniatures.
        validation_share: share of each class's training images that becomes the validation
            split: the images with the smallest name hashes. 0 for numbers that are compared
            with publications.

    Raises:
        FileNotFoundError: if images or lists are missing.
        ValueError: if an argument is refused, or the files do not make the split.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from avalanche_proxyfda import split_imagenet_r
        >>> with tempfile.TemporaryDirectory() as root:  # a miniature: 5 images a class
        ...     for k in range(20):
        ...         Path(root, f"n0000000{k % 4}").mkdir(exist_ok=True)
        ...         Path(root, f"n0000000{k % 4}", f"{k}.jpg").touch()
        ...     stream = split_imagenet_r(root, num_experiences=2, classes=4)
        >>> [len(experience.dataset) for experience in stream.train_stream], stream.summary["test"]
        ([8, 8], 4)
    """
    from avalanche.benchmarks import nc_benchmark

    if num_experiences < 1 or classes % num_experiences:
        raise ValueError(
            f"num_experiences={num_experiences} must divide the {classes} classes: 5, 10, 20, 40 …"
        )
    if split not in (None, "hash80", "coda", "presplit"):
        raise ValueError(f"split={split!r} is unknown; choose 'hash80', 'coda' or 'presplit'")
    if on_corrupt not in ("raise", "drop"):
        raise ValueError(f"on_corrupt={on_corrupt!r} is unknown; choose 'raise' or 'drop'")
    if not 0 <= validation_share <= 0.5:
        raise ValueError(f"validation_share={validation_share} must lie in [0, 0.5]")
    paths = (expanded(lists[0]), expanded(lists[1])) if lists is not None else None
    if split == "coda":
        if paths is None:
            raise ValueError("split='coda' needs lists=(TRAIN.yaml, TEST.yaml), CODA-Prompt's own")
        check_lists(paths)  # before an archive is extracted
    folder = find_root(root)
    split = split or ("presplit" if is_split(folder) else "hash80")
    if split == "coda" and is_split(folder):
        names = " and ".join(f"{part.name}/" for part in split_folders(folder))
        raise ValueError(
            f"{folder} is split already, into {names}: CODA-Prompt's lists need the plain class "
            "folders; take the split as it is with split='presplit' and order='pilot-1993' "
            "(stream.split=presplit stream.order=pilot-1993)"
        )
    if split == "coda" and paths is not None:
        counts = CODA_COUNTS if classes == CLASSES else None
        files = coda(folder, paths, classes, counts)
    elif split == "presplit":
        if not is_split(folder):
            raise ValueError(
                f"split='presplit' needs train/ and test/ (or val/) in {folder}: leave split out"
            )
        files = presplit(folder, classes)
    else:
        if is_split(folder):
            raise ValueError(
                f"{folder} is split already: split='hash80' needs the plain folders; set "
                "split='presplit'"
            )
        files = hash80(folder, classes)
    learnt = class_order(order, files)
    count = len(files.train) + len(files.test)
    if classes == CLASSES and count != IMAGES:
        warnings.warn(
            f"{folder} holds {count} images, ImageNet-R has {IMAGES}: results are comparable only "
            "with results on the same files (split_sha256 identifies them)",
            stacklevel=2,
        )
    dropped: dict[Path, str] = {}
    pairs = {"train": files.train, "test": files.test}
    if on_corrupt == "drop":
        dropped = scan([path for part in pairs.values() for path, _ in part], max_pixels)
        pairs = {n: tuple(p for p in part if p[0] not in dropped) for n, part in pairs.items()}
        files = replace(files, train=pairs["train"], test=pairs["test"])
    if validation_share:
        pairs["validation"], pairs["train"] = held_out(files.train, validation_share, "validation")
    sets = {
        name: ImageFiles([p for p, _ in part], [k for _, k in part], max_pixels)
        for name, part in pairs.items()
    }
    for name, data in sets.items():
        if set(data.targets) != set(range(classes)):
            missing = sorted(set(range(classes)) - set(data.targets))
            raise ValueError(
                f"no usable {name} image of {', '.join(files.wnids[k] for k in missing[:5])}"
                + (": set validation_share=0" if name == "validation" else "")
            )

    shown = {
        name: for_view(data, train_transform if name == "train" else eval_transform)
        for name, data in sets.items()
    }

    def build(evaluated: Any) -> Any:
        return nc_benchmark(
            shown["train"],
            evaluated,
            num_experiences,
            task_labels=False,
            shuffle=False,
            fixed_class_order=learnt,
            class_ids_from_zero_from_first_exp=True,
            train_transform=train_transform,
            eval_transform=eval_transform,
        )

    benchmark = build(shown["test"])
    validation = shown.get("validation")
    benchmark.validation_stream = None if validation is None else build(validation).test_stream
    benchmark.image_files = sets
    benchmark.summary = {
        "stream": "split-imagenet-r",
        "split": split,
        "split_sha256": files.sha256,
        "order": order if isinstance(order, str) else "explicit",
        "class_order": learnt,
        "wnids": [files.wnids[k] for k in learnt],
        "num_experiences": num_experiences,
        "train": len(sets["train"]),
        "validation": len(sets["validation"]) if "validation" in sets else 0,
        "test": len(sets["test"]),
        "dropped": {
            str(path.relative_to(folder)): reason.replace(f"{folder}/", "")
            for path, reason in dropped.items()
        },
    }
    return benchmark
