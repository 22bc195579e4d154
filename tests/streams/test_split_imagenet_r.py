"""Split ImageNet-R on a miniature of its layouts: 200 classes of a few tiny images."""

from __future__ import annotations

import hashlib
import random
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from avalanche_proxyfda.streams.imagenet_r import class_order, image_paths, split_imagenet_r
from avalanche_proxyfda.streams.imagenet_r_splits import CLASSES, coda, hash80, presplit

pytestmark = pytest.mark.filterwarnings("ignore:.* ImageNet-R has 30000")
WNIDS = [f"n{10_000_000 + 37 * k:08d}" for k in range(CLASSES)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "imagenet-r"
    for k, wnid in enumerate(WNIDS):
        (root / wnid).mkdir(parents=True)
        for n in range(3 + k % 3):
            Image.new("RGB", (4, 4), (k, n, 0)).save(root / wnid / f"art_{n}.png")
    (root / "README.txt").write_text("as the original has one", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def lists(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """CODA-Prompt's files: its own class numbers, paths from its own root."""
    numbers = random.Random(5).sample(range(CLASSES), CLASSES)
    parts: dict[str, dict[str, list[Any]]] = {n: {"data": [], "targets": []} for n in ("a", "b")}
    for k, wnid in enumerate(WNIDS):
        for n, file in enumerate(sorted((tree / wnid).iterdir())):
            part = parts["b" if n == 0 else "a"]
            part["data"].append(f"data/imagenet-r/{wnid}/{file.name}")
            part["targets"].append(numbers[k])
    folder = tmp_path_factory.mktemp("lists")
    for name, part in parts.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(part), encoding="utf-8")
    return folder / "a.yaml", folder / "b.yaml"


def count(benchmark: Any) -> tuple[int, int]:
    return tuple(
        sum(len(e.dataset) for e in stream)
        for stream in (benchmark.train_stream, benchmark.test_stream)
    )


@pytest.mark.parametrize("number", [5, 10, 20, 40])
def test_every_class_is_in_one_experience_and_parts_are_disjoint(tree: Path, number: int) -> None:
    benchmark = split_imagenet_r(tree, number)
    seen: list[int] = []
    for k, experience in enumerate(benchmark.train_stream):
        own = sorted(set(experience.classes_in_this_experience))
        assert own == sorted(set(benchmark.test_stream[k].classes_in_this_experience))
        assert len(own) == CLASSES // number
        seen += own
    assert seen == list(range(CLASSES))  # labels are in the order of learning
    summary = benchmark.summary
    assert summary["class_order"][:8] == [168, 136, 51, 9, 183, 101, 171, 99]
    assert summary["wnids"][0] == WNIDS[168] and summary["split"] == "hash80"
    assert count(benchmark) == (summary["train"], summary["test"])
    assert summary["train"] + summary["test"] == sum(3 + k % 3 for k in range(CLASSES))


def test_fewer_images_than_the_real_one_are_said(tree: Path) -> None:
    with pytest.warns(UserWarning, match="holds 799 images, ImageNet-R has 30000"):
        split_imagenet_r(tree, 10)


def test_labels_belong_to_their_images(tree: Path) -> None:
    benchmark = split_imagenet_r(tree, 10, eval_transform=lambda image: image.getpixel((0, 0))[0])
    order = benchmark.summary["class_order"]
    for experience in benchmark.test_stream:
        for pixel, label, *_ in experience.dataset.eval():
            assert order[label] == pixel  # the red of an image is its class


def test_validation_images_are_of_train_and_of_no_other_part(tree: Path) -> None:
    plain = split_imagenet_r(tree, 10)
    assert plain.validation_stream is None and plain.summary["validation"] == 0
    benchmark = split_imagenet_r(
        tree, 10, validation_share=0.4, eval_transform=lambda image: image.getpixel((0, 0))[:2]
    )
    streams = benchmark.train_stream, benchmark.validation_stream, benchmark.test_stream
    parts = []
    for stream in streams:
        seen = set()
        for experience in stream:
            for (red, number), label, *_ in experience.dataset.eval():
                assert benchmark.summary["class_order"][label] == red
                seen.add((red, number))
        parts.append(seen)
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert len(parts[2]) == plain.summary["test"]  # the test stays as it was
    assert len(parts[0]) + len(parts[1]) == plain.summary["train"]
    assert {red for red, _ in parts[1]} == set(range(CLASSES))
    assert benchmark.summary["split_sha256"] == plain.summary["split_sha256"]
    with pytest.raises(ValueError, match=r"validation_share=0.9 must lie in \[0, 0.5\]"):
        split_imagenet_r(tree, 10, validation_share=0.9)


def test_hash80_is_ours_and_the_same_everywhere(tree: Path, tmp_path: Path) -> None:
    made = hash80(tree)
    wnid = WNIDS[7]
    names = [f"art_{n}.png" for n in range(3 + 7 % 3)]
    first = min(names, key=lambda n: hashlib.sha256(f"{wnid}/{n}".encode()).hexdigest())
    assert [p.name for p, k in made.test if k == 7] == [first]
    copy = shutil.copytree(tree, tmp_path / "elsewhere")
    assert hash80(copy).sha256 == made.sha256
    next((copy / wnid).iterdir()).rename(copy / wnid / "other.png")
    assert hash80(copy).sha256 != made.sha256


def test_a_folder_that_is_split_already(tree: Path, tmp_path: Path) -> None:
    for part, keep in (("train", slice(1, None)), ("test", slice(0, 1))):
        for wnid in WNIDS:
            (tmp_path / part / wnid).mkdir(parents=True)
            for file in sorted((tree / wnid).iterdir())[keep]:
                shutil.copy(file, tmp_path / part / wnid)
    benchmark = split_imagenet_r(tmp_path, 10)
    assert benchmark.summary["split"] == "presplit" and benchmark.summary["test"] == CLASSES
    with pytest.raises(ValueError, match="is split already"):
        split_imagenet_r(tmp_path, 10, split="hash80")
    twice = next((tmp_path / "test" / WNIDS[0]).iterdir())
    shutil.copy(twice, tmp_path / "train" / WNIDS[0])
    with pytest.raises(ValueError, match=rf"1 files are in train and in test.*{WNIDS[0]}/art_0"):
        presplit(tmp_path)


@pytest.mark.parametrize("name", ["val", "validation"])
def test_a_tree_of_train_and_val(
    tree: Path, lists: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    for part, keep in (("train", slice(1, None)), (name, slice(0, 1))):
        for wnid in WNIDS:
            (tmp_path / part / wnid).mkdir(parents=True)
            for file in sorted((tree / wnid).iterdir())[keep]:
                shutil.copy(file, tmp_path / part / wnid)
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    benchmark = split_imagenet_r(tmp_path, 10)
    assert benchmark.summary["split"] == "presplit" and benchmark.summary["test"] == CLASSES
    with pytest.raises(
        ValueError, match=rf"into train/ and {name}/: .* split='presplit' and order"
    ):
        split_imagenet_r(tmp_path, 10, split="coda", lists=lists)
    assert len(image_paths(tmp_path)) == benchmark.summary["train"] + CLASSES
    (tmp_path / name / WNIDS[3]).rename(tmp_path / name / "n99999999")
    words = rf"different classes: {WNIDS[3]} in train/ alone, n99999999 in {name}/ alone"
    with pytest.raises(ValueError, match=words):
        split_imagenet_r(tmp_path, 10)


def test_from_a_zip_as_code_bases_share_it(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ImageNet-R.zip"
    with zipfile.ZipFile(path, "w") as made:
        for part, keep in (("train", slice(1, None)), ("test", slice(0, 1))):
            for wnid in WNIDS:
                for file in sorted((tree / wnid).iterdir())[keep]:
                    made.write(file, f"ImageNet R/{part}/{wnid}/{file.name}")
        made.writestr("__MACOSX/ImageNet R/train/._n01443537", b"x")
        made.writestr("ImageNet R/.DS_Store", b"x")
    monkeypatch.setenv("HOME", str(tmp_path))
    for root in (path, "~/ImageNet-R.zip"):  # the second time it is there already
        benchmark = split_imagenet_r(root, 10)
        assert benchmark.summary["split"] == "presplit" and benchmark.summary["test"] == CLASSES
    with pytest.raises(FileNotFoundError, match=r"is it ImageNet-R\.zip, which lies there\?"):
        split_imagenet_r(tmp_path / "imagenet-r.tar", 10)


def test_codas_lists_and_orders(tree: Path, lists: tuple[Path, Path]) -> None:
    made = coda(tree, lists, counts=None)
    assert len(made.test) == CLASSES and made.coda_ids is not None
    theirs = list(range(CLASSES))
    assert [made.coda_ids[k] for k in class_order("coda-0", made)] == theirs
    random.Random(3).shuffle(theirs)
    assert [made.coda_ids[k] for k in class_order("coda-3", made)] == theirs
    with pytest.raises(ValueError, match=r"lists 599 files .*; expected 24000"):
        split_imagenet_r(tree, 10, split="coda", lists=lists)
    with pytest.raises(ValueError, match="needs lists="):
        split_imagenet_r(tree, 10, split="coda")
    with pytest.raises(ValueError, match="use split='coda'"):
        split_imagenet_r(tree, 10, order="coda-1")
    for absent in ((tree / "no.yaml", lists[1]), (lists[0], tree / "no.yaml")):
        words = (
            r"no\.yaml does not exist: .* imagenet-r_train\.yaml and imagenet-r_test\.yaml, from "
            rf"the folder dataloaders/splits of .*CODA-Prompt; put both into {tree}, or choose"
        )
        with pytest.raises(FileNotFoundError, match=words):
            coda(tree, absent)
        with pytest.raises(FileNotFoundError, match=words):  # whether or not there are images
            split_imagenet_r(tree / "nowhere", 10, split="coda", lists=absent)


def test_bad_lists_of_coda(tree: Path, lists: tuple[Path, Path], tmp_path: Path) -> None:
    def changed(change: Any) -> tuple[Path, Path]:
        content = yaml.safe_load(lists[0].read_text(encoding="utf-8"))
        change(content)
        (tmp_path / "a.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return tmp_path / "a.yaml", lists[1]

    def absent(content: Any) -> None:
        content["data"][:7] = [n.replace("art", "gone") for n in content["data"][:7]]

    with pytest.raises(
        ValueError, match=r"7 files are not under .*the first: .*gone_1.png"
    ) as told:
        coda(tree, changed(absent), counts=None)
    assert str(told.value).count("gone") == 5
    with pytest.raises(ValueError, match="which is not its class's"):
        coda(
            tree, changed(lambda c: c["targets"].__setitem__(0, 199 - c["targets"][0])), counts=None
        )
    with pytest.raises(ValueError, match="needs 'data' and 'targets'"):
        coda(tree, changed(lambda c: c.pop("data")), counts=None)
    overlap = yaml.safe_load(lists[1].read_text(encoding="utf-8"))

    def twice(content: Any) -> None:
        content["data"].append(overlap["data"][0])
        content["targets"].append(overlap["targets"][0])

    with pytest.raises(ValueError, match="1 files are in train and in test"):
        coda(tree, changed(twice), counts=None)


def test_orders(tree: Path) -> None:
    made = hash80(tree)
    assert class_order("identity", made) == list(range(CLASSES))
    legacy = np.random.RandomState(7).permutation(CLASSES)
    assert class_order("pilot-7", made) == legacy.tolist()
    backwards = list(range(CLASSES))[::-1]
    assert class_order(backwards, made) == backwards
    for bad in ("pilot", "pilot-x", "other-3"):
        with pytest.raises(ValueError, match=f"order='{bad}' is unknown"):
            class_order(bad, made)
    with pytest.raises(ValueError, match="each class id from 0 to 199 once"):
        class_order([0, 0, *range(2, CLASSES)], made)


def test_from_the_archive(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "imagenet-r.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(tree, "imagenet-r")
    for _ in range(2):  # the second time it is there already
        benchmark = split_imagenet_r(path, 10)
        assert benchmark.summary["split_sha256"] == hash80(tree).sha256


def test_broken_images_stop_or_are_dropped_and_noted(tree: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tree, tmp_path / "imagenet-r")
    made = hash80(copy)
    bad = made.train[0][0]
    bad.write_bytes(b"")
    benchmark = split_imagenet_r(copy, 10, order="identity")
    with pytest.raises(ValueError, match=f"{bad.name}: the file is empty"):
        list(benchmark.train_stream[0].dataset)
    dropped = split_imagenet_r(copy, 10, on_corrupt="drop")
    assert list(dropped.summary["dropped"]) == [f"{bad.parent.name}/{bad.name}"]
    assert dropped.summary["train"] == benchmark.summary["train"] - 1
    assert dropped.summary["split_sha256"] != benchmark.summary["split_sha256"]
    (copy / WNIDS[0] / "Thumbs.db").write_text("no image", encoding="utf-8")
    assert hash80(copy).sha256 == benchmark.summary["split_sha256"]
    for path, label in made.test:
        if label == 4:
            path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"no usable test image of {WNIDS[4]}"):
        split_imagenet_r(copy, 10, on_corrupt="drop")


def test_folders_that_are_not_imagenet_r(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"does not exist: give imagenet-r.tar"):
        split_imagenet_r(tmp_path / "absent", 10)
    (tmp_path / "cats").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no folder called like n01443537.*cats"):
        split_imagenet_r(tmp_path, 10)
    copy = shutil.copytree(tree, tmp_path / "imagenet-r")
    shutil.rmtree(copy / WNIDS[0])
    with pytest.raises(ValueError, match="has 199 class folders, ImageNet-R has 200"):
        split_imagenet_r(tmp_path, 10)
    (copy / WNIDS[0]).mkdir()
    with pytest.raises(ValueError, match=f"{WNIDS[0]} is empty: the archive was extracted in part"):
        split_imagenet_r(tmp_path, 10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_experiences": 7}, "num_experiences=7 must divide the 200"),
        ({"num_experiences": 0}, "num_experiences=0 must divide the 200"),
        ({"split": "random"}, "split='random' is unknown"),
        ({"split": "presplit"}, "needs train/ and test/"),
        ({"on_corrupt": "skip"}, "on_corrupt='skip' is unknown"),
    ],
)
def test_bad_options(tree: Path, options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        split_imagenet_r(tree, **options)
