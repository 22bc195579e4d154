"""Folders of photographs as people have them: layouts, splits by content, what is left out."""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avalanche_proxyfda.streams.files.broken import broken, without_broken
from avalanche_proxyfda.streams.files.content import split_by_content
from avalanche_proxyfda.streams.files.datasets import load
from avalanche_proxyfda.streams.files.download import file_digest
from avalanche_proxyfda.streams.files.encoded import EncodedImages
from avalanche_proxyfda.streams.files.images import UnreadableImage, list_hash
from avalanche_proxyfda.streams.files.labelled import SPLITS, DataSet
from avalanche_proxyfda.streams.files.left_out import LeftOutWarning
from tests.streams.test_datasets import caltech101, eurosat, gtsrb, image


def photo(path: Path, number: int, mode: str = "RGB") -> None:
    """An image that no other number gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (3, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def flat(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 10) -> Path:
    for k, name in enumerate(classes):
        for n in range(count):
            photo(root / name / f"{n}.png", 100 * k + n)
    return root


def loaded(root: Path, name: str, **options: float) -> tuple[DataSet, list[str]]:
    """A data set, and what its warnings say."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load(f"folder:{name}", root, **options)  # type: ignore[arg-type]
    said = [str(w.message) for w in caught if issubclass(w.category, LeftOutWarning)]
    return data, [text.removeprefix(f"folder:{name}: ") for text in said]


def contents(data: DataSet) -> dict[str, list[str]]:
    return {
        split: [str(np.asarray(picture).tolist()) + str(label) for picture, label in part]
        for split in SPLITS
        for part in (getattr(data, split),)
    }


def test_class_folders_are_split_by_content_under_any_name(tmp_path: Path) -> None:
    flat(tmp_path / "a", ("Ü ñ", "dog"))
    data, said = loaded(tmp_path, "a")
    assert said == [] and data.classes == ("dog", "Ü ñ") and "by content hash" in data.note
    assert [len(getattr(data, split)) for split in SPLITS] == [14, 2, 4]
    for split in SPLITS:
        assert set(getattr(data, split).targets) == {0, 1}
    found = contents(data)
    assert len({text for texts in found.values() for text in texts}) == 20
    for k, old in enumerate(sorted((tmp_path / "a").rglob("*.png"), reverse=True)):
        new = tmp_path / "b" / old.parent.name / f"folder {k % 3}" / f"IMG_{k}.PNG"
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(old, new)
    renamed, _ = loaded(tmp_path, "b")
    assert contents(renamed) == found and renamed.sha256 == data.sha256
    other, _ = loaded(tmp_path, "a", seed=7)
    assert contents(other)["test"] == found["test"]
    assert contents(other)["validation"] != found["validation"]
    photo(tmp_path / "a" / "dog" / "3.png", 999)
    assert loaded(tmp_path, "a")[0].sha256 != data.sha256


def test_the_test_split_has_the_smallest_hashes_of_each_class() -> None:
    digests = [hashlib.sha256(bytes([k])).hexdigest() for k in range(30)]
    labels = [k % 2 for k in range(30)]
    rows = split_by_content(digests, labels, 0.25, 0)
    for label in (0, 1):
        own = sorted(digests[k] for k in range(30) if k % 2 == label)
        assert [digests[k] for k in rows["test"] if labels[k] == label] == own[:3]
        assert sum(labels[k] == label for k in rows["validation"]) == 3
    assert sorted(k for part in rows.values() for k in part) == list(range(30))


@pytest.mark.parametrize(("count", "sizes"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1))])
def test_few_images_go_to_training_first(count: int, sizes: tuple[int, ...]) -> None:
    rows = split_by_content([f"{k}" for k in range(count)], [0] * count, 0.1, 0)
    assert tuple(len(rows[split]) for split in SPLITS) == sizes


def test_copies_of_an_image_stay_on_one_side(tmp_path: Path) -> None:
    flat(tmp_path / "a")
    for k in range(10):
        shutil.copy(tmp_path / f"a/cat/{k}.png", tmp_path / f"a/cat/copy of {k}.png")
    shutil.copy(tmp_path / "a/cat/1.png", tmp_path / "a/dog/1 again.png")
    data, said = loaded(tmp_path, "a")
    found = contents(data)
    cats = [{text for text in found[split] if text.endswith("0")} for split in SPLITS]
    assert not (cats[0] & cats[1] or cats[0] & cats[2] or cats[1] & cats[2])
    assert len(data.train) == 14 + 7 + 1
    assert said == [
        "the same image in two classes: cat/1.png = dog/1 again.png; remove it from one"
    ]


def test_hidden_entries_and_nested_folders(tmp_path: Path) -> None:
    flat(tmp_path / "a")
    plain, _ = loaded(tmp_path, "a")
    for name in (".ipynb_checkpoints", ".git", "__MACOSX", "cat/.ipynb_checkpoints", "cat/@eaDir"):
        photo(tmp_path / "a" / name / "1-checkpoint.png", 77)
    for name in (".DS_Store", "Thumbs.db", "cat/._1.png", "cat/.DS_Store"):
        (tmp_path / "a" / name).write_bytes(b"x")
    data, said = loaded(tmp_path, "a")
    assert data.classes == ("cat", "dog") and data.sha256 == plain.sha256 and said == []
    photo(tmp_path / "a/cat/2024/May/1.png", 55)
    deeper, _ = loaded(tmp_path, "a")
    assert len(deeper.train) == len(data.train) + 1
    assert "cat/2024/May/1.png" in [
        where for s in SPLITS for where, _ in getattr(deeper, s).placed()
    ]
    (tmp_path / "a/cat/loop").symlink_to(tmp_path / "a/cat")
    assert loaded(tmp_path, "a")[0].sha256 == deeper.sha256


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Train", "validation", "Testing")])
def test_three_parts(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = tmp_path / "a"
    for k, name in enumerate(names):
        flat(root / name, count=3 + k)
    data, said = loaded(tmp_path, "a")
    assert [len(getattr(data, split)) for split in SPLITS] == [6, 8, 10] and said == []
    lines = [
        f"{split} {name}/{n}.png {file_digest(root / part / name / f'{n}.png', 'sha256')} {k}"
        for split, part, count in zip(SPLITS, names, (3, 4, 5), strict=True)
        for k, name in enumerate(("cat", "dog"))
        for n in range(count)
    ]
    assert data.sha256 == list_hash(lines)


def test_train_and_val_alone(tmp_path: Path) -> None:
    flat(tmp_path / "a/train")
    flat(tmp_path / "a/val", count=4)
    data, said = loaded(tmp_path, "a")
    assert [len(getattr(data, split)) for split in SPLITS] == [18, 2, 8] and said == []
    assert data.note == "test: val/, for there is no test/; validation: of train, ours"
    shutil.rmtree(tmp_path / "a/val")
    whole, _ = loaded(tmp_path, "a")
    assert [len(getattr(whole, split)) for split in SPLITS] == [14, 2, 4]
    flat(tmp_path / "b", ("bus", "train"))  # a train may be a class
    assert loaded(tmp_path, "b")[0].classes == ("bus", "train")


def test_files_that_are_no_images_are_counted_in_one_line(tmp_path: Path) -> None:
    flat(tmp_path / "a")
    for name in ("cat/IMG_1.HEIC", "dog/IMG_2.heic", "dog/notes.txt", "README", "cat/x.mp4"):
        (tmp_path / "a" / name).write_bytes(b"x")
    photo(tmp_path / "a/loose.jpg", 3)
    _, said = loaded(tmp_path, "a")
    assert said == [
        "images outside of class folders: 1; left out: put each into its class's folder",
        "files that are not read: 1 without ending, 2 .heic, 1 .mp4, 1 .txt; convert .heic to "
        ".jpg to use them",
    ]


def test_poor_classes_are_named_and_do_not_stop_the_rest(tmp_path: Path) -> None:
    flat(tmp_path / "a")
    photo(tmp_path / "a/owl/1.png", 500)
    for k in range(7):
        (tmp_path / f"a/empty {k}").mkdir()
    data, said = loaded(tmp_path, "a")
    assert data.classes == ("cat", "dog", "owl") and 2 not in data.test.targets
    assert said == [
        "no image: empty 0, empty 1, empty 2, empty 3, empty 4 and 2 more; left out: add images, "
        "or remove the folder",
        "one image: owl; learnt and never tested: add images",
    ]


def test_classes_of_one_part_alone_are_named(tmp_path: Path) -> None:
    flat(tmp_path / "a/train", ("cat", "dog", "owl", "Golden Retriever"))
    flat(tmp_path / "a/test", ("cat", "dog", "fox", "golden_retriever"), 3)
    (tmp_path / "a/extra").mkdir()
    data, said = loaded(tmp_path, "a")
    assert data.classes == ("Golden Retriever", "cat", "dog", "owl")
    assert len(data.test) == 6 and set(data.test.targets) == {1, 2}
    assert said == [
        "beside train/: extra; not read: only the parts of the data set are",
        "test/golden_retriever is left out: if it is train/Golden Retriever, give both folders "
        "the same name",
        "in test/ and not in train/: fox; left out: add images to train/, or remove the folder",
        "no image in test/: Golden Retriever, owl; learnt and never tested: add images",
    ]


def _clash(root: Path) -> None:
    flat(root / "train", tuple(f"a{k}" for k in range(7)), 2)
    flat(root / "test", tuple(f"b{k}" for k in range(7)), 2)


def _twice(root: Path) -> None:
    for name in ("train", "val", "validation"):
        flat(root / name)


def _inner(root: Path) -> None:
    flat(root / "photos")


def _phone(root: Path) -> None:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        (root / name / "1.heic").write_bytes(b"x")


def _tests_only(root: Path) -> None:
    flat(root / "test")
    flat(root / "val")


def _bare(root: Path) -> None:
    for name in ("train", "test"):
        photo(root / name / "1.png", 1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_clash, "no class in common: a0, a1, a2, a3, a4 and 2 more are in train/ alone, b0, b1,"),
        (_twice, r"has val/ and validation/: which is the validation part\? Leave one"),
        (_inner, "one class alone, photos; if cat, dog are the classes, give .*/a/photos;"),
        (_phone, "no class folder with images; files that are not read: 2 .heic; convert .heic"),
        (_tests_only, "a/train is not there: .*/a has test/, val/ alone; a folder needs"),
        (_bare, "a/train has no class folder with images; images outside of class folders: 1"),
        (
            lambda root: root.write_text("x", encoding="utf-8"),
            "is no folder: a folder needs train/ and test/",
        ),
        (lambda root: flat(root, count=2), "a has no image for validation: its classes have too"),
        (lambda root: flat(root.with_name("A")), r"is not there \(is it .*/A\?\)"),
    ],
)
def test_folders_that_cannot_be_used(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    make(tmp_path / "a")
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        load("folder:a", tmp_path)


def test_odd_images_are_read_from_any_layout(tmp_path: Path) -> None:
    flat(tmp_path / "a")
    for k, (mode, ending) in enumerate(
        (
            ("RGBA", "png"),
            ("CMYK", "jpg"),
            ("I;16", "png"),
            ("P", "gif"),
            ("1", "bmp"),
            ("L", "webp"),
        )
    ):
        path = tmp_path / "a" / "cat" / f"ünï {k}.{ending}"
        if mode == "I;16":
            Image.fromarray(np.full((3, 4), 40_000, np.uint16)).save(path)
        else:
            photo(path, 600 + k, mode)
    data, said = loaded(tmp_path, "a")
    assert said == [] and sum(len(getattr(data, split)) for split in SPLITS) == 26
    assert {p.mode for split in SPLITS for p, _ in getattr(data, split)} == {"RGB"}
    assert not any(broken(data).values())


def test_files_that_cannot_be_read_are_broken_images_of_train(tmp_path: Path) -> None:
    usual, _ = loaded(flat(tmp_path / "a").parent, "a")
    link, pipe, circle = (tmp_path / "a/cat" / f"{name}.png" for name in ("link", "pipe", "o"))
    link.symlink_to(tmp_path / "gone.png")
    os.mkfifo(pipe)
    circle.symlink_to(circle)
    data, said = loaded(tmp_path, "a")
    assert said == [] and [len(data.train), len(data.validation), len(data.test)] == [17, 2, 4]
    reasons = broken(data)
    assert reasons["validation"] == reasons["test"] == {} and len(reasons["train"]) == 3
    assert f"{link}: the link leads to no file" in reasons["train"].values()
    assert f"{pipe}: the file is empty" in reasons["train"].values()
    rest, dropped = without_broken(data)
    assert rest.sha256 == usual.sha256 and contents(rest) == contents(usual)
    assert dropped["folder:a train cat/link.png"] == "cat/link.png: the link leads to no file"
    encoded = EncodedImages(data.train)
    (place,) = (k for k in range(17) if data.train.file(k) == link)
    with pytest.raises(UnreadableImage, match=r"link\.png: the link leads to no file"):
        encoded.encoded(place)


def test_a_folder_of_broken_links_alone_is_refused(tmp_path: Path) -> None:
    for name in ("a/cat/0.png", "a/dog/0.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).symlink_to(tmp_path / "gone.png")
    with pytest.raises(
        ValueError, match=r"none of the 2 images of .*/a can be read, such as cat/0"
    ):
        loaded(tmp_path, "a")


def test_hidden_folders_are_no_classes_of_torchvisions_sets(tmp_path: Path) -> None:
    for make, name, place in (
        (eurosat, "EuroSAT", "eurosat/2750"),
        (gtsrb, "GTSRB", "gtsrb/GTSRB/Training"),
        (caltech101, "Caltech101", "caltech101/101_ObjectCategories"),
    ):
        make(tmp_path)
        plain = load(name, tmp_path)
        first = next(p for p in sorted((tmp_path / place).iterdir()) if list(p.iterdir()))
        copied = next(first.iterdir())
        for folder in (tmp_path / place / ".ipynb_checkpoints", first / ".ipynb_checkpoints"):
            image(folder / f"copy{copied.suffix}", 200)
        (tmp_path / place / ".empty").mkdir()
        data = load(name, tmp_path)
        assert data.classes == plain.classes, name
        assert data.sha256 == plain.sha256, name
        assert [label for _, label in data.test] == [label for _, label in plain.test]


def test_a_broken_image_of_torchvisions_sets_is_named(tmp_path: Path) -> None:
    eurosat(tmp_path)
    data = load("EuroSAT", tmp_path)
    path = data.train.file(0)
    assert path is not None
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UnreadableImage, match=f"{path}: "):
        data.train[0]
