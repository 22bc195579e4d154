"""Data sets of list files, in the layouts of DomainNet and CORe50."""

from __future__ import annotations

from pathlib import Path

import pytest

from avalanche_proxyfda.streams.files.datasets import load
from tests.streams.test_datasets import image

CLASSES = ("aircraft_carrier", "The_Eiffel_Tower")


def domain(root: Path, name: str, counts: tuple[int, int] = (6, 2)) -> None:
    """A domain of DomainNet with its two lists."""
    for part, count in zip(("train", "test"), counts, strict=True):
        lines = []
        for k, label in enumerate(CLASSES):
            for n in range(count):
                path = f"{name}/{label}/{name}_{k:03d}_{part}{n}.jpg"
                image(root / path, 50 * k)
                lines.append(f"{path} {k}")
        (root / f"{name}_{part}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_lists_name_images_labels_and_classes(tmp_path: Path) -> None:
    domain(tmp_path / "domainnet", "clipart")
    data = load("lists:domainnet/clipart", tmp_path, 0.2)
    assert data.classes == CLASSES and data.note == "test as published; validation: of train, ours"
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 2, 4)
    assert all(CLASSES[label] in place for place, label in data.test.placed())
    moved = tmp_path / "elsewhere"
    (tmp_path / "domainnet").rename(moved)
    assert load("lists:elsewhere/clipart", tmp_path, 0.2).sha256 == data.sha256


def test_the_hash_covers_every_photograph(tmp_path: Path) -> None:
    domain(tmp_path, "clipart")
    before = load("lists:clipart", tmp_path).sha256
    for part in ("train", "test"):
        file = tmp_path / f"clipart/aircraft_carrier/clipart_000_{part}1.jpg"
        content = file.read_bytes()
        image(file, 200)
        assert load("lists:clipart", tmp_path).sha256 != before
        file.write_bytes(content)
        assert load("lists:clipart", tmp_path).sha256 == before


def test_a_file_names_classes_of_several_folders(tmp_path: Path) -> None:
    for session, part in (("s1", "train"), ("s3", "test")):
        lines = []
        for item in range(4):
            for n in range(3):
                path = f"{session}/o{item + 1}/C_{n}.png"
                image(tmp_path / path, item)
                lines.append(f"{path} {item // 2}")
        (tmp_path / f"s1_{part}.txt").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=r"label 0 has images in o1 and in o2.*write classes\.txt"):
        load("lists:s1", tmp_path)
    (tmp_path / "classes.txt").write_text("plug adapter\nmobile phone\n", encoding="utf-8")
    data = load("lists:s1", tmp_path)
    assert data.classes == ("plug adapter", "mobile phone") and len(data.test) == 12
    for names, words in (
        ("plug adapter\n\nmobile phone\n", r"classes\.txt:2 is blank, and names are read by line"),
        ("plug\nplug\n", r"classes\.txt: two labels have one class name: plug"),
    ):
        (tmp_path / "classes.txt").write_text(names, encoding="utf-8")
        with pytest.raises(ValueError, match=words):
            load("lists:s1", tmp_path)
    (tmp_path / "classes.txt").write_text("plug adapter\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has 1 names, the lists of s1 have label 1"):
        load("lists:s1", tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("clipart/a.jpg", "is not a path below the folder of the list and a label from 0"),
        ("clipart/a.jpg -1", "is not a path"),
        ("../a.jpg 0", "is not a path"),
        ("/a.jpg 0", "is not a path"),
        ("clipart/aircraft_carrier/clipart_000_train0.jpg 0", "is in train and in train"),
        ("clipart/zebra/a.jpg 5", r"no image of the labels \[2, 3, 4\]"),
        ("b/aircraft_carrier/a.jpg 2", "two labels have one class name: aircraft_carrier"),
        ("clipart/zebra/a.jpg 1", "label 1 has images in The_Eiffel_Tower and in zebra"),
    ],
)
def test_lines_that_are_wrong(tmp_path: Path, line: str, words: str) -> None:
    domain(tmp_path, "clipart")
    with (tmp_path / "clipart_train.txt").open("a", encoding="utf-8") as file:
        file.write(line)
    with pytest.raises(ValueError, match=words):
        load("lists:clipart", tmp_path)


def test_what_is_missing(tmp_path: Path) -> None:
    domain(tmp_path, "clipart")
    (tmp_path / "clipart/aircraft_carrier/clipart_000_test1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"name 1 images that are not in .*test1\.jpg"):
        load("lists:clipart", tmp_path)
    (tmp_path / "clipart_test.txt").write_text("\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"clipart_test\.txt lists no image: give a line for each"):
        load("lists:clipart", tmp_path)
    (tmp_path / "clipart_test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"clipart_test\.txt does not exist"):
        load("lists:clipart", tmp_path)
