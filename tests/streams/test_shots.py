"""Few training images of each class: drawn by a seed, or listed; and sets without validation."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avalanche_proxyfda.streams.files.datasets import load
from avalanche_proxyfda.streams.files.images import ImageFiles
from avalanche_proxyfda.streams.files.labelled import DataSet, Labelled
from avalanche_proxyfda.streams.files.shots import drawn_shots, listed_shots, read_shot_list
from avalanche_proxyfda.streams.sequence import dataset_sequence
from tests.streams.test_datasets import folder, pack

COUNTS = {"dog": 6, "cat": 3, "owl": 5}


def data(name: str = "pets") -> DataSet:
    """Files that need not exist, of three classes in turns."""
    paths = [
        (Path(f"/data/{split}/{word}/{n}.jpg"), label)
        for n in range(6)
        for split in ("train", "test")
        for label, (word, count) in enumerate(COUNTS.items())
        if n < count
    ]
    files = ImageFiles(*zip(*paths, strict=True))
    rows = {
        split: tuple(k for k, (path, _) in enumerate(paths) if split in path.parts)
        for split in ("train", "test")
    }
    parts = {
        split: Labelled(files, chosen, tuple(paths[k][1] for k in chosen))
        for split, chosen in rows.items()
    }
    none = Labelled(files, (), ())
    return DataSet(name, tuple(COUNTS), parts["train"], none, parts["test"], "ours")


def counts(made: DataSet) -> list[int]:
    found = Counter(made.train.targets)
    return [found[label] for label in range(len(made.classes))]


def test_a_draw_is_nested_by_seed_and_name_and_takes_all_of_a_small_class() -> None:
    whole, state = data(), torch.get_rng_state()
    global_state: Any = np.random.get_state()  # noqa: NPY002
    draws = {k: drawn_shots(whole, k) for k in (1, 4, 5, 99)}
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], global_state[1])  # noqa: NPY002
    assert [counts(made) for made in draws.values()] == [[1] * 3, [4, 3, 4], [5, 3, 5], [6, 3, 5]]
    for few, more in ((1, 4), (4, 5)):
        assert set(draws[few].train.rows) < set(draws[more].train.rows)
    assert draws[99].train.rows == whole.train.rows  # in their order, and none repeats
    assert draws[4].test is whole.test and draws[4].sha256 != draws[5].sha256
    torch.manual_seed(5)
    assert drawn_shots(data(), 4).train.rows == draws[4].train.rows
    assert drawn_shots(data("other"), 4, name="pets").train.rows == draws[4].train.rows
    others = [drawn_shots(whole, 4, seed=1), drawn_shots(whole, 4, name="other")]
    assert len({made.train.rows for made in [draws[4], *others]}) == 3


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((0,), ValueError), ((1.5,), TypeError), ((True,), TypeError), ((1, -1), ValueError)],
    ids=str,
)
def test_no_other_number_is_drawn(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"(shots|seed)="):
        drawn_shots(data(), *arguments)


def test_a_list_names_images_by_path_or_row() -> None:
    whole = data()
    row = whole.train.rows[whole.train.targets.index(2)]
    made = listed_shots(
        whole,
        {"dog": ["dog/5.jpg", "./dog/0.jpg"], "cat": ["train/cat/2.jpg"], "owl": [row]},
    )
    assert [whole.train.source.paths[r].name for r in made.train.rows] == [
        "0.jpg", "0.jpg", "2.jpg", "5.jpg",
    ]  # fmt: skip
    assert counts(made) == [2, 1, 1] and row in made.train.rows


GOOD: dict[str, Any] = {"dog": ["dog/1.jpg"], "cat": ["cat/1.jpg"], "owl": ["owl/1.jpg"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cat": None}, "has no image of cat"),
        ({"cat": []}, "has no image of cat"),
        ({"fox": ["fox/1.jpg"]}, "has unknown classes fox"),
        (
            {"cat": [f"cat/{k}.jpg" for k in range(4)]},
            "asks for 4 images of 'cat', and train has 3",
        ),
        ({"cat": ["cat/9.jpg"]}, "'cat/9.jpg' is no training image"),
        ({"cat": ["at/1.jpg"]}, "'at/1.jpg' is no training image"),
        ({"cat": [77]}, "77 is no training image"),
        ({"cat": ["test/cat/1.jpg"]}, "'test/cat/1.jpg' is no training image"),
        ({"cat": ["1.jpg"]}, "'1.jpg' names 3 images; give its path with more folders"),
        ({"cat": ["dog/1.jpg"]}, "has 'dog/1.jpg' under 'cat', and it is an image of 'dog'"),
        (
            {"cat": ["cat/1.jpg", "train/cat/1.jpg"]},
            "repeats an image of 'cat': name each image once",
        ),
    ],
    ids=str,
)
def test_other_lists_are_refused(changes: dict[str, Any], words: str) -> None:
    wrong = {name: images for name, images in (GOOD | changes).items() if images is not None}
    with pytest.raises(ValueError, match=rf"the list of pets.*{words}"):
        listed_shots(data(), wrong)


def test_a_list_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "shots.json"
    path.write_text(json.dumps({"pets": GOOD}), encoding="utf-8")
    assert counts(listed_shots(data(), read_shot_list(path)["pets"])) == [1, 1, 1]
    for content in ("[]", '{"pets": 3}', '{"pets": {"dog": [1.5]}}', '{"pets": {"dog": "a.jpg"}}'):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=r"shots\.json.*expected \{set: \{class: \[image"):
            read_shot_list(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="is no JSON"):
        read_shot_list(path)
    with pytest.raises(FileNotFoundError, match="no such list of images"):
        read_shot_list(tmp_path / "none.json")


@pytest.mark.filterwarnings("ignore:.*files that are not read")
def test_a_share_of_0_leaves_no_validation_split(tmp_path: Path) -> None:
    folder(tmp_path / "halves")
    folder(tmp_path / "thirds", ("train", "val", "test"))
    folder(tmp_path / "two", ("train", "val"))
    folder(tmp_path / "whole", ("",))
    pack(tmp_path / "a.npz")
    for name, train, test in (
        ("folder:halves", 20, 20),
        ("folder:thirds", 20, 20),  # the published validation images stay out
        ("folder:two", 20, 20),
        ("folder:whole", 16, 4),
        ("npz:a.npz", 30, 30),
    ):
        made = load(name, tmp_path, 0)
        assert (len(made.train), len(made.validation), len(made.test)) == (train, 0, test), name
        assert "validation: " not in made.note and made.sha256 != load(name, tmp_path).sha256
        assert made.note.startswith("train and") or "no validation" in made.note
    dataset_sequence([made], torch.tensor, torch.tensor)
    with pytest.raises(ValueError, match=r"'validation', but npz:a.npz has no validation image"):
        dataset_sequence([made], torch.tensor, torch.tensor, evaluate_on="validation")
