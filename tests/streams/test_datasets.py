"""Data sets by name on miniatures of their real layouts, and sequences of them."""

from __future__ import annotations

import gzip
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision import transforms

from avalanche_proxyfda import FDAPlugin
from avalanche_proxyfda.models import TaskHeads
from avalanche_proxyfda.streams.files.broken import without_broken
from avalanche_proxyfda.streams.files.datasets import load
from avalanche_proxyfda.streams.files.left_out import LeftOutWarning
from avalanche_proxyfda.streams.files.packs import read_pack
from avalanche_proxyfda.streams.files.torchvision_sets import TORCHVISION
from avalanche_proxyfda.streams.sequence import dataset_sequence
from tests.plugins.toys import Growing, learn, strategy

PACS = ("photo", "art_painting", "cartoon", "sketch")
SHARED = Path(__file__).parents[3] / "shared" / "data"


def image(path: Path, colour: int, size: tuple[int, int] = (9, 7), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 50, 50)).convert(mode).save(path)


def pack(
    path: Path, classes: int = 3, per_class: int = 10, size: int = 8, mode: str = "RGB"
) -> Path:
    content: dict[str, Any] = {"class_names": np.array([f"class {k}" for k in range(classes)])}
    for split in ("train", "test"):
        labels, encoded = [], []
        for k in range(classes * per_class):
            sink = io.BytesIO()
            Image.new("RGB", (size, size), (k % classes * 40, k, 0)).convert(mode).save(sink, "PNG")
            encoded.append(np.frombuffer(sink.getvalue(), np.uint8))
            labels.append(k % classes)
        content[f"{split}_buf"] = np.concatenate(encoded)
        content[f"{split}_off"] = np.cumsum([0, *map(len, encoded)])
        content[f"{split}_y"] = np.array(labels)
    np.savez(path, **content)
    return path


def test_a_pack_has_three_splits_that_do_not_meet(tmp_path: Path) -> None:
    pack(tmp_path / "a.npz")
    data = load("npz:a.npz", tmp_path, validation_share=0.2)
    assert data.classes == ("class 0", "class 1", "class 2")
    assert (len(data.train), len(data.validation), len(data.test)) == (24, 6, 30)
    assert not set(data.train.rows) & set(data.validation.rows)
    for part in (data.train, data.validation, data.test):
        for picture, label in part:
            assert picture.mode == "RGB" and picture.getpixel((0, 0))[0] == label * 40
    again = load("npz:a.npz", tmp_path, validation_share=0.2)
    assert again.validation.rows == data.validation.rows
    other = load("npz:a.npz", tmp_path, validation_share=0.2, seed=1)
    assert other.validation.rows != data.validation.rows and other.test.rows == data.test.rows


def test_bad_packs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no pack at"):
        load("npz:a.npz", tmp_path)
    good = dict(np.load(pack(tmp_path / "good.npz")))
    for change, words in (
        ({"train_y": good["train_y"] + 1}, "labels of train are not below 3 classes"),
        ({"test_off": good["test_off"][:-1]}, "offsets of test do not fit"),
        ({"train_off": good["train_off"][::-1]}, "offsets of train do not fit"),
    ):
        np.savez(tmp_path / "bad.npz", **{**good, **change})
        with pytest.raises(ValueError, match=words):
            read_pack(tmp_path / "bad.npz")
    del good["train_buf"]
    np.savez(tmp_path / "bad.npz", **good)
    with pytest.raises(ValueError, match="it lacks train_buf"):
        read_pack(tmp_path / "bad.npz")
    broken = dict(np.load(tmp_path / "good.npz"))
    broken["train_buf"] = np.zeros_like(broken["train_buf"])
    np.savez(tmp_path / "bad.npz", **broken)
    with pytest.raises(ValueError, match=r"bad.npz/train, image 0: cannot identify"):
        read_pack(tmp_path / "bad.npz")[0][0]


def folder(root: Path, parts: tuple[str, ...] = ("train", "test")) -> Path:
    for part in parts:
        for k, name in enumerate(("cat", "dog")):
            for n in range(10):
                image(root / part / name / f"{n}.png", 40 * k, (5 + n, 9), "RGB" if n else "P")
            (root / part / name / "notes.txt").write_text("no image", encoding="utf-8")
    return root


def test_folders_with_and_without_a_validation_split(tmp_path: Path) -> None:
    folder(tmp_path / "a")
    data = load("folder:a", tmp_path, 0.3)
    assert (len(data.train), len(data.validation), len(data.test)) == (14, 6, 20)
    assert data.classes == ("cat", "dog") and "ours" in data.note
    folder(tmp_path / "b", ("train", "val", "test"))
    data = load("folder:b", tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (20, 20, 20)
    assert data.note == "validation and test as published"
    assert all(abs(p.getpixel((0, 0))[0] - 40 * label) < 45 for p, label in data.validation)
    image(tmp_path / "b" / "test" / "fox" / "0.png", 0)
    with pytest.warns(
        LeftOutWarning, match="in test/ and not in train/: fox; left out: add images"
    ):
        assert load("folder:b", tmp_path).sha256 == data.sha256
    with pytest.raises(FileNotFoundError, match="a folder needs train/ and test/"):
        load("folder:c", tmp_path)


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_the_hash_of_a_divided_folder_covers_every_photograph(tmp_path: Path, part: str) -> None:
    folder(tmp_path / "a", ("train", "val", "test"))
    before = load("folder:a", tmp_path).sha256
    file = tmp_path / "a" / part / "dog/3.png"
    content = file.read_bytes()
    image(file, 77, (5, 5))
    assert load("folder:a", tmp_path).sha256 != before
    file.write_bytes(content)
    assert load("folder:a", tmp_path).sha256 == before
    file.rename(file.with_name("z.png"))  # another order of batches
    assert load("folder:a", tmp_path).sha256 != before


def idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def mnist(root: Path) -> None:
    for part in ("train", "t10k"):
        labels = np.arange(40) % 10
        images = np.repeat(labels * 20, 28 * 28).reshape(40, 28, 28)
        idx(root / "MNIST/raw" / f"{part}-images-idx3-ubyte", images)
        idx(root / "MNIST/raw" / f"{part}-labels-idx1-ubyte", labels)


def eurosat(root: Path) -> None:
    for k in range(10):
        for n in range(10):
            image(root / "eurosat/2750" / f"Class{k}" / f"{n}.jpg", 20 * k)


def caltech101(root: Path) -> None:
    for k in range(4):
        for n in range(10):
            image(root / "caltech101/101_ObjectCategories" / f"c{k}" / f"image_{n + 1:04d}.jpg", 0)
        (root / "caltech101/Annotations" / f"c{k}").mkdir(parents=True)
    (root / "caltech101/101_ObjectCategories/BACKGROUND_Google").mkdir()


def dtd(root: Path) -> None:
    base = root / "dtd/dtd"
    for part, numbers in (("train", (0, 1)), ("val", (2,)), ("test", (3,))):
        names = [f"{c}/{c}_{n}.jpg" for c in ("banded", "dotted") for n in numbers]
        (base / "labels").mkdir(parents=True, exist_ok=True)
        (base / "labels" / f"{part}1.txt").write_text("\n".join(names), encoding="utf-8")
        for name in names:
            image(base / "images" / name, 9)


def pets(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for part in ("trainval", "test"):
        lines = []
        for k, breed in enumerate(("Abyssinian", "beagle")):
            for n in range(5):
                name = f"{breed}_{part}{n}"
                image(base / "images" / f"{name}.jpg", 9)
                lines.append(f"{name} {k + 1} 1 1")
        (base / "annotations" / f"{part}.txt").write_text("\n".join(lines), encoding="utf-8")


def food101(root: Path) -> None:
    base = root / "food-101"
    (base / "meta").mkdir(parents=True)
    for part in ("train", "test"):
        names = {c: [f"{c}/{part}{n}" for n in range(5)] for c in ("pie", "soup")}
        (base / "meta" / f"{part}.json").write_text(json.dumps(names), encoding="utf-8")
        for group in names.values():
            for name in group:
                image(base / "images" / f"{name}.jpg", 9)


def gtsrb(root: Path) -> None:
    """43 signs: three tracks of four frames each to train on, one image each to test."""
    base = root / "gtsrb"
    for sign in range(43):
        for track in range(3):
            for frame in range(4):
                name = f"{track:05d}_{frame:05d}.ppm"
                image(base / "GTSRB/Training" / f"{sign:05d}" / name, sign)
        image(base / "GTSRB/Final_Test/Images" / f"{sign:05d}.ppm", sign)
    rows = [f"{sign:05d}.ppm;9;9;0;0;9;9;{sign}" for sign in range(43)]
    head = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    (base / "GT-final_test.csv").write_text("\n".join([head, *rows]), encoding="utf-8")


MINIATURES: dict[str, tuple[Any, tuple[int, int, int, int]]] = {
    "MNIST": (mnist, (10, 30, 10, 40)),
    "EuroSAT": (eurosat, (10, 70, 10, 20)),
    "Caltech101": (caltech101, (4, 28, 4, 8)),
    "DTD": (dtd, (2, 4, 2, 2)),
    "OxfordIIITPet": (pets, (2, 8, 2, 10)),
    "Food101": (food101, (2, 8, 2, 10)),
    "GTSRB": (gtsrb, (43, 43 * 8, 43 * 4, 43)),
}


@pytest.mark.parametrize("name", MINIATURES)
def test_torchvisions_sets(tmp_path: Path, name: str) -> None:
    make, expected = MINIATURES[name]
    make(tmp_path)
    data = load(name, tmp_path)
    sizes = (len(data.classes), len(data.train), len(data.validation), len(data.test))
    assert sizes == expected
    picture, label = data.train[0]
    assert picture.mode == "RGB" and 0 <= label < len(data.classes)
    other = load(name, tmp_path, seed=5)  # tunes on other rows, and is tested on the same
    assert other.test.rows == data.test.rows


def test_frames_of_one_sign_are_all_on_one_side(tmp_path: Path) -> None:
    gtsrb(tmp_path)
    data = load("GTSRB", tmp_path)
    assert data.note.endswith("whole tracks")
    files = data.train.source._samples
    tracks = [
        {
            (label, Path(files[r][0]).name[:5])
            for r, label in zip(part.rows, part.targets, strict=True)
        }
        for part in (data.train, data.validation)
    ]
    assert len(tracks[0]) == 86 and len(tracks[1]) == 43 and not tracks[0] & tracks[1]


def test_broken_images_are_left_out_and_told(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            for n in range(6):
                image(tmp_path / "a" / part / name / f"{n}.png", n)
    data = load("folder:a", tmp_path)
    same, told = without_broken(data)
    assert told == {} and same.sha256 == data.sha256
    (tmp_path / "a/test/dog/4.png").write_bytes(b"x")
    kept, told = without_broken(load("folder:a", tmp_path))
    assert list(told) == ["folder:a test dog/4.png"] and "dog/4.png" in next(iter(told.values()))
    assert len(kept.test) == 11 and kept.test.targets == (0,) * 6 + (1,) * 5
    assert kept.sha256 != data.sha256
    for n in range(6):
        (tmp_path / f"a/train/cat/{n}.png").write_bytes(b"")
    with pytest.raises(ValueError, match="no readable training image of cat: restore its files"):
        without_broken(load("folder:a", tmp_path))


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_registry_asks_torchvision_as_it_wants_to_be_asked(name: str, tmp_path: Path) -> None:
    import inspect

    build = getattr(torchvision.datasets, name)
    parameters = inspect.signature(build).parameters
    for options in TORCHVISION[name].splits.values():
        assert set(options) <= set(parameters)
    with pytest.raises(FileNotFoundError, match=f"{name} .* is not under"):
        load(name, tmp_path)


@pytest.mark.parametrize(
    "content", [gzip.compress(b"no pack", mtime=0), b"", b"PK damaged"], ids=["gz", "empty", "cut"]
)
def test_other_files_are_no_packs(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz is no pack of images"):
        load("npz:a.npz", tmp_path)


@pytest.mark.parametrize(
    ("name", "share", "words"),
    [
        ("CIFAR", 0.1, "name='CIFAR' is unknown; near ones: CIFAR10"),
        ("cifar10", 0.1, "name='cifar10' is unknown; near ones: CIFAR10"),
        ("npz:", 0.1, "give one of torchvision's"),
        ("MNIST", 0.7, "validation_share=0.7 must lie in"),
    ],
)
def test_bad_names(tmp_path: Path, name: str, share: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load(name, tmp_path, share)


SMALL = transforms.Compose(
    [transforms.Resize((4, 4)), transforms.Grayscale(), transforms.ToTensor()]
)


def three(root: Path) -> list[Any]:
    """Sets of other sizes, channels and numbers of classes."""
    pack(root / "a.npz", 3, 10, 8)
    pack(root / "b.npz", 5, 10, 17, "L")
    folder(root / "c")
    return [load(name, root, 0.2) for name in ("npz:a.npz", "npz:b.npz", "folder:c")]


def test_tasks_have_labels_of_their_own_and_never_mix(tmp_path: Path) -> None:
    sets = three(tmp_path)
    benchmark = dataset_sequence(sets, SMALL, SMALL)
    for number, (data, experience) in enumerate(zip(sets, benchmark.train_stream, strict=True)):
        assert set(experience.classes_in_this_experience) == set(range(len(data.classes)))
        assert list(experience.task_labels) == [number]
        assert [int(y) for y in experience.dataset.targets] == list(data.train.targets)
        assert experience.dataset[0][0].shape == (1, 4, 4)
    assert [s["classes"] for s in benchmark.summary["sets"]] == [3, 5, 2]
    assert benchmark.summary["sets"][1]["train"] == 40


def test_it_trains_and_evaluation_of_an_unseen_set_grows_nothing(tmp_path: Path) -> None:
    from tests.plugins.toys import backbone

    benchmark = dataset_sequence(three(tmp_path), SMALL, SMALL)
    model = TaskHeads(backbone(), 8, [3, 5, 2])
    names = [(n, p.shape) for n, p in model.named_parameters()]
    trained = strategy(model, FDAPlugin(num_neighbors=4))
    learn(trained, benchmark)  # evaluates the whole stream after each set
    assert [(n, p.shape) for n, p in model.named_parameters()] == names
    assert trained.clock.train_exp_counter == 3


def test_learning_by_domain_shares_the_labels(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pack(tmp_path / f"{name}.npz", 4, 6)
    sets = [load(f"npz:{name}.npz", tmp_path) for name in ("a", "b")]
    benchmark = dataset_sequence(sets, SMALL, SMALL, shared_labels=True)
    for experience in benchmark.train_stream:
        assert set(experience.classes_in_this_experience) == {0, 1, 2, 3}
    learn(strategy(Growing(), FDAPlugin(num_neighbors=4)), benchmark)
    pack(tmp_path / "c.npz", 3)
    sets.append(load("npz:c.npz", tmp_path))
    words = r"npz:c\.npz has other classes than npz:a\.npz: class 3 in npz:a\.npz alone; give all"
    with pytest.raises(ValueError, match=words):
        dataset_sequence(sets, SMALL, SMALL, shared_labels=True)


def test_views_and_splits(tmp_path: Path) -> None:
    pack(tmp_path / "a.npz", 3, 10)
    sets = [load("npz:a.npz", tmp_path, 0.2)]
    bright = transforms.Compose([SMALL, transforms.Lambda(lambda x: x + 100)])
    benchmark = dataset_sequence(sets, [bright], SMALL, evaluate_on="validation")
    assert len(benchmark.test_stream[0].dataset) == 6
    assert benchmark.train_stream[0].dataset[0][0].min() > 99
    assert benchmark.train_stream[0].dataset.eval()[0][0].max() < 2
    assert benchmark.test_stream[0].dataset.eval()[0][0].max() < 2


def test_bad_sequences(tmp_path: Path) -> None:
    sets = three(tmp_path)
    for wrong in ([], [sets[0], sets[0]]):
        with pytest.raises(ValueError, match="must be different data sets, at least one"):
            dataset_sequence(wrong, SMALL, SMALL)
    with pytest.raises(
        ValueError, match="2 transforms were given for 3 data sets: give one for each"
    ):
        dataset_sequence(sets, [SMALL, SMALL], SMALL)
    with pytest.raises(ValueError, match="evaluate_on='train' is unknown"):
        dataset_sequence(sets, SMALL, SMALL, evaluate_on="train")  # type: ignore[arg-type]


@pytest.mark.skipif(not (SHARED / "pacs_photo.npz").exists(), reason="the real packs are absent")
def test_the_real_pacs_by_domain() -> None:
    sets = [load(f"npz:pacs_{name}.npz", SHARED) for name in PACS]
    view = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    benchmark = dataset_sequence(sets, view, view, shared_labels=True)
    assert [s["test"] for s in benchmark.summary["sets"]] == [417, 512, 585, 982]
    assert len({data.classes for data in sets}) == 1 and len(sets[0].classes) == 7
    images, labels, *_ = next(
        iter(torch.utils.data.DataLoader(benchmark.train_stream[3].dataset, 16, shuffle=True))
    )
    assert images.shape == (16, 3, 32, 32) and isinstance(nn.Flatten()(images), torch.Tensor)
    assert int(labels.max()) < 7
