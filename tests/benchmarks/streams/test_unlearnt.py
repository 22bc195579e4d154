"""A learnt data set is on no panel, under whatever name it is given."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.config import Config
from benchmarks.experiment import data as data_module
from benchmarks.experiment.prepare import prepare
from tests.benchmarks.miniature import config
from tests.streams.test_photo_folders import flat


def probing(data: Path, learnt: str, probed: str, **stream: Any) -> Config:
    return config(
        data,
        method="finetune",
        head={"kind": "random"},
        train={"batch": 4},
        stream={"kind": "sequence", "sets": [learnt], **stream},
        panel={"sets": [probed]},
    )


@pytest.mark.parametrize(
    "probed",
    ["pets/", "./pets", "{data}/pets", "link", "../data/pets", "{data}/link/.", "../link"],
)
def test_another_spelling_of_a_learnt_place_is_refused(tmp_path: Path, probed: str) -> None:
    data = tmp_path / "data"
    (data / "pets").mkdir(parents=True)
    (data / "link").symlink_to(data / "pets")
    (tmp_path / "link").symlink_to(data / "pets")
    name = f"folder:{probed.format(data=data)}"
    words = rf"\['{name}'\] cannot be learnt and be on the panel at once \({name} is folder:pets\)"
    with pytest.raises(ValueError, match=words):
        probing(data, "folder:pets", name)
    probing(data, "folder:pets", "folder:other")
    probing(data / "others", "folder:pets", f"folder:{data}/pets")  # two folders


@pytest.mark.parametrize(
    ("learnt", "probed", "relation"),
    [
        ("folder:pets", "folder:.", "contains"),
        ("folder:pets", "folder:{data}/pets/..", "contains"),
        ("folder:pets", "folder:link", "contains"),
        ("folder:pets", "folder:pets/train/", "lies in"),
        ("lists:x/clip", "folder:x", "contains"),
    ],
)
def test_a_folder_around_or_inside_a_learnt_one_is_refused(
    tmp_path: Path, learnt: str, probed: str, relation: str
) -> None:
    (tmp_path / "pets").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    name = probed.format(data=tmp_path)
    words = rf"learnt and be on the panel at once \({name} {relation} {learnt}\): remove them from"
    with pytest.raises(ValueError, match=words):
        probing(tmp_path, learnt, name)
    probing(tmp_path, "folder:pets", "folder:pets-2")
    probing(tmp_path, "npz:pets/a.npz", "folder:pets")  # a pack is no image of the folder


def test_a_place_is_refused_for_every_kind_of_set(tmp_path: Path) -> None:
    for learnt, probed in (("npz:a.npz", "npz:./a.npz"), ("lists:x/clip", "folder:x/clip/")):
        with pytest.raises(ValueError, match=f"{probed} is {learnt}"):
            probing(tmp_path, learnt, probed)
    with pytest.raises(ValueError, match=r"\(folder:imagenet-r is imagenet-r/\): remove them"):
        config(
            tmp_path,
            stream={"kind": "imagenet-r", "root": "imagenet-r/"},
            panel={"sets": ["folder:imagenet-r"]},
        )


@pytest.mark.parametrize("divided", [False, True])
def test_a_copy_of_a_learnt_folder_is_refused(
    tmp_path: Path, divided: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_module, "_KEPT", OrderedDict())
    for k, part in enumerate(("train", "test") if divided else (".",)):
        flat(tmp_path / "pets" / part, count=10 - 4 * k)
    shutil.copytree(tmp_path / "pets", tmp_path / "copy")
    for file in (tmp_path / "copy").rglob("1.png"):
        file.rename(file.with_name("another name.png"))
    for options in ({}, {"shots": 2}, {"validation_share": 0}):
        made = probing(tmp_path, "folder:pets", "folder:copy", **options)
        with pytest.raises(ValueError, match="folder:copy has the test images of pets, which the"):
            prepare(made, only_check=True)
    flat(tmp_path / "copy" / ("test" if divided else "."), ("cow", "dog"), 13)
    prepare(probing(tmp_path, "folder:pets", "folder:copy"), only_check=True)


def test_a_copy_of_a_learnt_pack_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_module, "_KEPT", OrderedDict())
    files = sorted(flat(tmp_path / "pets").rglob("*.png"))
    arrays: dict[str, Any] = {"class_names": np.array(["cat", "dog"])}
    for split in ("train", "test"):
        parts = [np.fromfile(file, np.uint8) for file in files]
        arrays[f"{split}_buf"] = np.concatenate(parts)
        arrays[f"{split}_off"] = np.cumsum([0, *map(len, parts)])
        arrays[f"{split}_y"] = np.repeat([0, 1], 10)
    np.savez(tmp_path / "a.npz", **arrays)
    shutil.copy(tmp_path / "a.npz", tmp_path / "b.npz")
    with pytest.raises(ValueError, match=r"npz:b\.npz has the test images of a\.npz"):
        prepare(probing(tmp_path, "npz:a.npz", "npz:b.npz"), only_check=True)
