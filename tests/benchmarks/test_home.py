"""``~`` is the home folder in every path: options, keys, recipes, arguments of plugins."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from avalanche_proxyfda import FDAPlugin
from avalanche_proxyfda._files import expanded
from avalanche_proxyfda.checkpoint import Checkpoints, is_there
from avalanche_proxyfda.models import load_backbone, read_weights
from avalanche_proxyfda.streams.files.datasets import load
from benchmarks.__main__ import COMMANDS, make_parser
from benchmarks.commands import board
from benchmarks.config import find_recipe, load_recipe, parse_overrides
from benchmarks.execution.matrix import load_matrix
from benchmarks.perf.options import of_page
from tests.plugins.toys import Plain, classic, learn, strategy
from tests.streams.test_photo_folders import flat


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_paths_of_recipes_and_keys(home: Path) -> None:
    (home / "below.yaml").write_text("stream: {kind: concepts}\nmethods: [fda]", encoding="utf-8")
    (home / "own.yaml").write_text("base: ~/below.yaml\nwhere: {data: ~/photos}", encoding="utf-8")
    (home / "m.yaml").write_text("streams: [~/own.yaml]", encoding="utf-8")
    assert find_recipe("~/own.yaml") == (home / "own.yaml").resolve()
    config = load_recipe(find_recipe("~/own.yaml")).of_method("fda").config
    assert (
        config.at("a/b") == home / "photos/a/b"
        and config.at("~/c.safetensors") == home / "c.safetensors"
    )
    set_here = load_recipe(home / "own.yaml", parse_overrides(["where.data=~/other"])).config
    assert set_here.at("") == home / "other"
    assert load_matrix("~/m.yaml").streams == ("~/own.yaml",)


def test_options_of_every_command(home: Path) -> None:
    needed = {
        "rerun": ["~/x"],
        "features": ["--run", "~/x"],
        "board": ["~/x"],
        "export": ["~/x"],
        "sweep": ["--matrix", "m"],
        "perf": ["overhead"],
    }
    for job in COMMANDS:
        words = [job, *needed.get(job, [])]
        words += [] if job == "rerun" else ["--out", "~/x"]
        found = vars(make_parser([job]).parse_args(words))
        paths = [
            p for value in found.values() for p in (value if isinstance(value, list) else [value])
        ]
        assert [p for p in paths if isinstance(p, Path) and str(p).startswith("~")] == [], job
        assert home / "x" in paths, job
    for add_options in (of_page, board.add_options):
        parser = argparse.ArgumentParser()
        add_options(parser)
        actions = [action for action in parser._actions if action.type in (Path, expanded)]
        assert actions and all(action.type is expanded for action in actions)
    with pytest.raises(ValueError, match=r"'~nobody-here/x': .*give the whole path"):
        expanded("~nobody-here/x")


def test_arguments_of_the_package(home: Path) -> None:
    flat(home / "photos")
    assert load("folder:~/photos", Path("nowhere")).classes == ("cat", "dog")
    assert load("folder:photos", Path("~")).classes == ("cat", "dog")
    torch.save({"a": torch.zeros(2)}, home / "w.pt")
    assert list(read_weights("~/w.pt")) == ["a"]
    with pytest.raises(FileNotFoundError, match=f"weights='{home}/none.pt' is not a file"):
        load_backbone("open_clip:ViT-B-32", "~/none.pt")
    plugin = FDAPlugin(num_neighbors=4, teacher_cache="exact", cache_dir="~/cache")
    trained = strategy(Plain(), plugin)
    checkpoints = Checkpoints(trained, "~/checkpoint")
    learn(trained, classic(2))
    assert list((home / "cache").iterdir())
    assert checkpoints.save().parent == home / "checkpoint" and is_there("~/checkpoint")
