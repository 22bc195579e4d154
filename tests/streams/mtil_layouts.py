"""Small copies of the layouts of MTIL's data sets, and of CoOp's split files."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from scipy.io import savemat

from tests.streams.test_datasets import caltech101, dtd, eurosat, food101, image, mnist, pets

CARS = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012")
AIRCRAFT = ("707-320", "A380")
SCENES = ("abbey", "apartment_building/outdoor", "river")


def aircraft(root: Path) -> None:
    base = root / "fgvc-aircraft-2013b/data"
    (base / "images").mkdir(parents=True)
    (base / "variants.txt").write_text("\n".join(AIRCRAFT), encoding="utf-8")
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        lines = []
        for k, variant in enumerate(AIRCRAFT):
            for n in range(count):
                name = f"{part}{k}{n}"
                image(base / "images" / f"{name}.jpg", 90 * k)
                lines.append(f"{name} {variant}")
        (base / f"images_variant_{part}.txt").write_text("\n".join(lines), encoding="utf-8")


def cifar100(root: Path) -> None:
    """Needs :func:`without_digests`."""
    base = root / "cifar-100-python"
    base.mkdir(parents=True)
    names = [f"thing {k}" for k in range(100)]
    (base / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    for part, count in (("train", 2), ("test", 1)):
        labels = [k for k in range(100) for _ in range(count)]
        data = np.repeat(np.array(labels, dtype=np.uint8), 3072).reshape(-1, 3072)
        content = {"data": data, "fine_labels": labels}
        (base / part).write_bytes(pickle.dumps(content))


def without_digests(patch: pytest.MonkeyPatch) -> None:
    """Let torchvision take files of CIFAR-100 and Flowers102 that are not the real ones."""
    kind = torchvision.datasets.CIFAR100
    for name in ("train_list", "test_list"):
        patch.setattr(kind, name, [[file, None] for file, _ in getattr(kind, name)])
    patch.setattr(kind, "meta", {**kind.meta, "md5": None})
    flowers = torchvision.datasets.Flowers102
    files = {name: (file, None) for name, (file, _) in flowers._file_dict.items()}
    patch.setattr(flowers, "_file_dict", files)


def flowers102(root: Path) -> None:
    base = root / "flowers-102"
    labels, ids = [], {"trnid": [], "valid": [], "tstid": []}
    for flower in range(1, 103):
        for part in ids:
            labels.append(flower)
            ids[part].append(len(labels))
            image(base / "jpg" / f"image_{len(labels):05d}.jpg", flower, (2, 2))
    savemat(base / "imagelabels.mat", {"labels": labels})
    savemat(base / "setid.mat", ids)


def cars(root: Path) -> None:
    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    kind = [("class", "O"), ("fname", "O")]

    def annotations(part: str, count: int) -> np.ndarray:
        rows = [(k + 1, f"{k}{n}.jpg") for k in range(len(CARS)) for n in range(count)]
        for label, name in rows:
            image(base / f"cars_{part}" / name, 50 * label)
        return np.array(rows, dtype=kind)

    names = np.array([*CARS, ""], dtype=object)[:-1]
    savemat(base / "devkit/cars_meta.mat", {"class_names": names})
    savemat(base / "devkit/cars_train_annos.mat", {"annotations": annotations("train", 5)})
    labelled = {"annotations": annotations("test", 3)}
    savemat(base / "cars_test_annos_withlabels.mat", labelled)


def sun397(root: Path) -> None:
    base = root / "SUN397"
    base.mkdir(parents=True)
    lines = [f"/{name[0]}/{name}" for name in SCENES]
    (base / "ClassName.txt").write_text("\n".join(lines), encoding="utf-8")
    for k, name in enumerate(SCENES):
        for n in range(10):
            image(base / name[0] / name / f"sun_{k}{n}.jpg", 60 * k)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "FGVCAircraft": aircraft,
    "Caltech101": caltech101,
    "CIFAR100": cifar100,
    "DTD": dtd,
    "EuroSAT": eurosat,
    "Flowers102": flowers102,
    "Food101": food101,
    "MNIST": mnist,
    "OxfordIIITPet": pets,
    "StanfordCars": cars,
    "SUN397": sun397,
}
"""Writes the layout of each data set of MTIL to a folder."""


def split_file(
    root: Path,
    file: str,
    images: str,
    classes: Sequence[str],
    counts: tuple[int, int, int] = (6, 2, 3),
    **changes: Any,
) -> Path:
    """A split file of CoOp in ``splits/``, with its images; ``changes`` replace lists of it."""
    content: dict[str, Any] = {}
    for part, count in zip(("train", "val", "test"), counts, strict=True):
        content[part] = []
        for k, name in enumerate(classes):
            for n in range(count):
                path = f"{name}/{part}_{n}.jpg"
                image(root / images / path, 40 * k)
                content[part].append([path, k, name])
    place = root / "splits" / file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({**content, **changes}), encoding="utf-8")
    return place


def coop(root: Path) -> None:
    """Food and flowers as CoOp's lists have them; one class name is in both."""
    split_file(root, "split_zhou_Food101.json", "food-101/images", ("pizza", "lotus", "hot_dog"))
    names = ("pink primrose", "Lotus")
    split_file(root, "split_zhou_OxfordFlowers.json", "oxford_flowers/jpg", names)
