"""Places of a user's disk: left out of what is written, and of what identifies a run."""

from __future__ import annotations

import hashlib
from itertools import product
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.results.identity import canonical, is_run_id, run_id_of
from benchmarks.results.places import (
    hidden,
    is_private,
    located,
    panel_word,
    scrubbed,
    title_of,
    without_elsewhere,
)
from benchmarks.results.settings import comparison_of, content_of
from benchmarks.results.splits import split_hash


def config_of(*sets: str, data: str = "/home/user/photos", **where: Any) -> dict[str, Any]:
    return {
        "method": "lp-ft",
        "strength": None,
        "seed": 0,
        "stream": {"kind": "sequence", "sets": list(sets)},
        "backbone": {"name": "timm:resnet18", "weights": None, "options": {}},
        "head": {"kind": "probe", "templates": ["/home/user/{}"]},
        "panel": {"sets": ["DTD"]},
        "train": {},
        "where": {"data": data, "cache_dir": None, "url": None, **where},
    }


def sets_of(config: dict[str, Any]) -> list[str]:
    content: list[str] = hidden(config)["stream"]["sets"]
    return content


@pytest.mark.parametrize(
    ("place", "private"),
    [
        ("/home/user/photos", True),
        ("~/photos", True),
        ("C:\\Users\\user\\photos", True),
        ("photos/pets", False),
        ("../photos", False),
        ("CIFAR10", False),
    ],
)
def test_private_places(place: str, private: bool) -> None:
    assert is_private(place) is private


def test_private_places_are_absolute_by_the_rules_of_either_system() -> None:
    for length in range(5):
        for letters in product("a/\\:~.", repeat=length):
            place = "".join(letters)
            absolute = PurePosixPath(place).is_absolute() or PureWindowsPath(place).is_absolute()
            assert is_private(place) is (absolute or place.startswith("~")), place


def test_what_a_record_keeps_of_a_place() -> None:
    config = config_of(
        "folder:/home/user/photos/pets",
        "folder:pets/cats",
        "CIFAR10",
        "npz:/media/disk/pack.npz",
        "folder:~/dogs",
        cache_dir="/home/user/photos/cache",
        pixel_dir="/home/user/rows",
        url="https://host.org/some/archive.tar",
    )
    config["backbone"]["weights"] = "/home/user/weights/clip.safetensors"
    kept = hidden(config)
    assert kept["stream"]["sets"] == [
        "folder:pets",
        "folder:pets/cats",
        "CIFAR10",
        "npz:<elsewhere>/pack.npz",
        "folder:<elsewhere>/dogs",
    ]
    assert kept["backbone"]["weights"] == "<elsewhere>/clip.safetensors"
    assert kept["where"] == {
        "data": "<data>",
        "cache_dir": "<data>/cache",
        "pixel_dir": "<elsewhere>/rows",
        "url": "https://host.org/some/archive.tar",
    }
    assert kept["head"] == config["head"]  # prompts are no places
    assert hidden(kept) == kept and "user" not in str({**kept, "head": None})
    plain = config_of("CIFAR10", "folder:pets", data="data")
    assert hidden(plain) == plain


def test_sets_of_one_name_stay_apart() -> None:
    config = config_of("folder:/a/pets", "folder:/b/pets", "folder:dogs", "folder:/c/dogs")
    kept = sets_of(config)
    assert kept == [
        "folder:<elsewhere>/pets",
        "folder:<elsewhere-2>/pets",
        "folder:dogs",
        "folder:<elsewhere-2>/dogs",
    ]
    assert list(map(title_of, kept)) == ["pets", "pets (2)", "dogs", "dogs (2)"]
    assert panel_word("folder:a/b") == "a_b"
    assert run_id_of(hidden(config)) == run_id_of(config)


def test_one_identity_for_absolute_and_relative_places(tmp_path: Path) -> None:
    relative = config_of("folder:pets", data=str(tmp_path))
    below = config_of(f"folder:{tmp_path}/pets", data=str(tmp_path))
    around = config_of(f"folder:{tmp_path}/x/../pets", data=str(tmp_path))
    outside = config_of("folder:/media/disk/pets", data="data")
    ids = {run_id_of(config) for config in (relative, below, around, outside)}
    assert len(ids) == 1 and run_id_of(config_of("folder:cats")) not in ids
    assert {comparison_of(config) for config in (relative, below, outside)} == {
        comparison_of(relative)
    }
    assert without_elsewhere(hidden(outside))["stream"]["sets"] == ["folder:pets"]


def test_a_data_set_that_is_a_key_has_no_place(tmp_path: Path) -> None:
    """``train.lr_factors`` names data sets by its keys."""
    inside, outside = f"folder:{tmp_path}/pets", "folder:/elsewhere/birds"

    def with_factors(pets: str, birds: str) -> dict[str, Any]:
        content = config_of(pets, birds, data=str(tmp_path))
        content["train"] = {"lr_factors": {pets: 5.0, birds: 2.0}}
        return content

    shown = hidden(with_factors(inside, outside))
    assert shown["train"]["lr_factors"] == {"folder:pets": 5.0, "folder:<elsewhere>/birds": 2.0}
    assert hidden(shown) == shown
    ids = {
        run_id_of(with_factors(*names)) for names in ((inside, outside), ("folder:pets", outside))
    }
    assert ids == {run_id_of(with_factors("folder:pets", "folder:birds"))}
    found, missing = located(shown, lambda place, last: f"/here/{last}")
    assert found["train"]["lr_factors"] == {"folder:pets": 5.0, "folder:/here/birds": 2.0}
    assert missing == []


def test_records_from_before_keep_their_ids() -> None:
    config = config_of("folder:/media/disk/pets")
    bare = {key: value for key, value in config.items() if key != "where"}
    older = hashlib.sha256(canonical(bare)).hexdigest()
    assert is_run_id(older, config) and is_run_id(run_id_of(config), config)
    assert older != run_id_of(config) and not is_run_id("0" * 64, config)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/home/user/photos/pets/x.jpg: the file is empty", "<data>/pets/x.jpg: the file is empty"),
        ("/media/my disk/pets/train is not there", "<elsewhere>/pets/train is not there"),
        ("stream.sets=[folder:/media/my disk/pets]", "stream.sets=[folder:<elsewhere>/pets]"),
        ("--out=/home/user/runs/one", "--out=<elsewhere>/one"),
        ("where.data=/home/user/photos", "where.data=<data>"),
        ("/home/user/photos2/x", "<elsewhere>/x"),
        ("~/photos/x.jpg and ~user/y.jpg", "<elsewhere>/x.jpg and <elsewhere>/y.jpg"),
        ("C:\\Users\\user\\x.jpg is gone", "<elsewhere>/x.jpg is gone"),
        ("https://host.org/a/b.tar, train/ and test/, 3/4", None),
        ("a folder needs train/ and test/", None),
    ],
)
def test_texts_hold_no_places(text: str, kept: str | None) -> None:
    config = config_of("folder:/media/my disk/pets")
    assert scrubbed(text, config) == (text if kept is None else kept)
    assert scrubbed(scrubbed(text, config), hidden(config)) == (text if kept is None else kept)


def test_places_are_put_back() -> None:
    config = config_of("folder:/a/pets", "folder:/b/pets", "folder:dogs")
    here = {"<elsewhere>/pets": "/x/pets"}
    content, missing = located(hidden(config), lambda place, _: here.get(place))
    assert content["stream"]["sets"] == [
        "folder:/x/pets",
        "folder:<elsewhere-2>/pets",
        "folder:dogs",
    ]
    assert missing == ["<elsewhere-2>/pets"]


def test_images_stand_for_a_folder_in_any_order() -> None:
    """A record lists its sets in the order of learning, and its configuration may not."""

    def content(sha256: str) -> str:
        config = config_of("folder:a", "CIFAR10")
        config["stream"]["order"] = "cyclic-1"
        listed = [{"name": "CIFAR10", "sha256": "c"}, {"name": "folder:a", "sha256": sha256}]
        stream = SimpleNamespace(summary={"sets": listed}, split_sha256="")
        record: Any = SimpleNamespace(config=config, stream=stream, panel={})
        return content_of(record)

    assert content("one") == content("one") != content("two")


def test_a_split_counts_by_its_contents() -> None:
    assert split_hash([("folder:a", "1")]) == split_hash([("folder:<elsewhere>/b/c", "1")])
    assert split_hash([("folder:a", "1")]) != split_hash([("folder:a", "2")])
    assert split_hash([("npz:x/a.npz", "1")]) == split_hash([("npz:a.npz", "1")])
    assert split_hash([("npz:a.npz", "1")]) != split_hash([("npz:b.npz", "1")])
    assert split_hash([("MNIST", "1")]) != split_hash([("SVHN", "1")])
