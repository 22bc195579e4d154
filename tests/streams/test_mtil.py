"""Data sets of MTIL on miniatures of their layouts: splits of ZSCL and of CoOp."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from avalanche_proxyfda.streams.mtil import SETS, mtil_set
from benchmarks.config.mtil import MTIL
from tests.streams.mtil_layouts import LAYOUTS, SCENES, coop, split_file, without_digests
from tests.streams.test_datasets import image

SIZES = {  # classes, train, validation, test
    "FGVCAircraft": (2, 8, 4, 6),
    "Caltech101": (4, 28, 4, 8),
    "CIFAR100": (100, 100, 100, 100),
    "DTD": (2, 4, 2, 2),
    "EuroSAT": (10, 70, 10, 20),
    "Flowers102": (102, 102, 102, 102),
    "Food101": (2, 8, 2, 10),
    "MNIST": (10, 30, 10, 40),
    "OxfordIIITPet": (2, 8, 2, 10),
    "StanfordCars": (2, 8, 2, 6),
    "SUN397": (3, 21, 3, 6),
}


@pytest.mark.parametrize("name", MTIL["I"])
def test_the_splits_of_zscl(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_digests(monkeypatch)
    LAYOUTS[name](tmp_path)
    data, about = mtil_set(name, tmp_path, "zscl")
    sizes = (len(data.classes), len(data.train), len(data.validation), len(data.test))
    assert about == {} and sizes[:1] + sizes[3:] == SIZES[name][:1] + SIZES[name][3:]
    assert sum(sizes[1:3]) == sum(SIZES[name][1:3])
    whole, _ = mtil_set(name, tmp_path, "zscl", validation_share=0)
    assert not len(whole.validation) and whole.test.rows == data.test.rows
    published = name in ("DTD", "Flowers102", "FGVCAircraft")  # their val is no part of train
    assert len(whole.train) == len(data.train) + (0 if published else len(data.validation))
    assert whole.note.endswith("no validation") and whole.sha256 != data.sha256
    picture, label = whole.train[0]
    assert picture.mode == "RGB" and 0 <= label < len(data.classes)


def test_drawn_splits_are_those_of_random_split(tmp_path: Path) -> None:
    LAYOUTS["EuroSAT"](tmp_path)
    data, _ = mtil_set("EuroSAT", tmp_path, "zscl", validation_share=0)
    seeded = torch.Generator().manual_seed(42)
    train, test = torch.utils.data.random_split(range(100), [80, 20], generator=seeded)
    assert sorted(data.train.rows) == sorted(train.indices)
    assert sorted(data.test.rows) == sorted(test.indices)


def test_the_split_of_sun397_does_not_depend_on_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LAYOUTS["SUN397"](tmp_path)
    first, _ = mtil_set("SUN397", tmp_path, "zscl")
    listing = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: list(listing(self, pattern))[::-1])
    again, _ = mtil_set("SUN397", tmp_path, "zscl")
    assert again.sha256 == first.sha256 and again.classes == SCENES
    for part in (again.train, again.test):
        for k, target in enumerate(part.targets):
            assert SCENES[target] in part.file(k).as_posix()


def test_the_splits_of_coop(tmp_path: Path) -> None:
    coop(tmp_path)
    data, about = mtil_set("Food101", tmp_path, "coop")
    assert data.classes == ("pizza", "lotus", "hot_dog")
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 6, 9)
    assert (
        about["split_file"] == "split_zhou_Food101.json" and len(about["split_file_sha256"]) == 64
    )
    assert data.note == "train, val and test of split_zhou_Food101.json; validation: as published"
    whole, _ = mtil_set("Food101", tmp_path, "coop", validation_share=0)
    assert (len(whole.train), len(whole.validation), len(whole.test)) == (18, 0, 9)
    LAYOUTS["FGVCAircraft"](tmp_path)  # has no list: both families take torchvision's
    same = [mtil_set("FGVCAircraft", tmp_path, family)[0].sha256 for family in SETS]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": [["pizza/train_0.jpg", 0]]}, r"an entry is \[path, label, class name\]"),
        ({"train": [["../a.jpg", 0, "pizza"]]}, "with a path below the folder of images"),
        ({"train": [["/a.jpg", 0, "pizza"]]}, "with a path below the folder of images"),
        ({"train": [["a.jpg", True, "pizza"]]}, "an entry is"),
        ({"val": []}, "'val' must be a list of images, and not be empty"),
        ({"val": [["pizza/val_0.jpg", 0, "soup"]]}, "label 0 is 'pizza' and, for pizza/val_0.jpg"),
        ({"val": [["pizza/val_0.jpg", 2, "pizza"]]}, "two labels have one class name: pizza"),
        ({"val": [["pizza/val_0.jpg", 5, "pie"]]}, r"no image has the labels \[2, 3, 4\]"),
        ({"val": [["pizza/train_0.jpg", 0, "pizza"]]}, "train_0.jpg is in train and val"),
    ],
)
def test_split_files_that_are_wrong(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    split_file(
        tmp_path, "split_zhou_Food101.json", "food-101/images", ("pizza", "lotus"), **changes
    )
    with pytest.raises(ValueError, match=words):
        mtil_set("Food101", tmp_path, "coop")


def test_what_is_missing_or_unknown(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="images of split_zhou_DescribableTex"):
        mtil_set("DTD", tmp_path, "coop")
    image(tmp_path / "food-101/images/pizza/train_0.jpg", 0)
    with pytest.raises(FileNotFoundError, match=r"one of CoOp's split files, .* DATASETS\.md"):
        mtil_set("Food101", tmp_path, "coop")
    file = tmp_path / "splits/split_zhou_Food101.json"
    file.parent.mkdir()
    for text, words in (("{", "is not JSON"), ("[]", "is no split file of CoOp")):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=words):
            mtil_set("Food101", tmp_path, "coop")
    parts = {p: [[f"{p}.jpg", 0, "pizza"], ["b.jpg", 1, "pie"]] for p in ("train", "val", "test")}
    parts = {p: [[f"{p}{k}.jpg", k, n] for _, k, n in rows] for p, rows in parts.items()}
    file.write_text(json.dumps(parts), encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"lists 6 images that are not in .*train0\.jpg"):
        mtil_set("Food101", tmp_path, "coop")
    with pytest.raises(ValueError, match="family='coopp' is unknown"):
        mtil_set("Food101", tmp_path, "coopp")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'UCF101' has no splits of family 'zscl'"):
        mtil_set("UCF101", tmp_path, "zscl")
    with pytest.raises(ValueError, match="did you mean 'Food101'"):
        mtil_set("Food10", tmp_path, "coop")
    with pytest.raises(ValueError, match=r"validation_share=0.6 must lie in \[0, 0.5\]"):
        mtil_set("Food101", tmp_path, "coop", validation_share=0.6)
