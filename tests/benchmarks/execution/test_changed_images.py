"""Images that changed since a record or a checkpoint are noticed, and the remedy is named."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from avalanche_proxyfda.checkpoint import CheckpointError
from benchmarks import __main__ as program
from benchmarks.config import Config
from benchmarks.experiment import data as data_module
from benchmarks.experiment.run import run
from benchmarks.results.files import read_record
from benchmarks.streams.kinds import concepts
from tests.benchmarks.execution.sweeps import call, instead_of_processes
from tests.benchmarks.miniature import config
from tests.streams.test_photo_folders import flat, photo


@pytest.fixture
def new_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forgets the streams of this process, as a new process does."""

    def forget() -> None:
        monkeypatch.setattr(data_module, "_KEPT", OrderedDict())

    forget()
    return forget


def replace_image(folder: Path) -> None:
    photo(folder / "cat/0.png", 999)


def small(root: Path) -> Config:
    return config(
        root,
        method="finetune",
        head={"kind": "random"},
        train={"lr": 1e-4, "batch": 4},
        stream={"kind": "sequence", "sets": ["folder:pets"]},
        panel={"sets": ["folder:birds"]},
        where={"data": str(root), "device": "cpu", "checkpoint_steps": 1},
    )


def test_a_checkpoint_of_other_images_is_refused(
    tmp_path: Path, new_process: Callable[[], None]
) -> None:
    flat(tmp_path / "pets")
    flat(tmp_path / "birds", ("finch", "cat"), 15)  # others than those of pets
    made, steps = small(tmp_path), [0]

    def stops(made: int) -> None:
        steps[0] += 1
        if steps[0] == 3:  # the checkpoint holds two
            raise InterruptedError

    def again() -> str | None:
        new_process()
        return run(made, checkpoint=tmp_path / "c").resumed_from

    with pytest.raises(InterruptedError):
        run(made, stops, checkpoint=tmp_path / "c")
    before = (tmp_path / "pets/cat/0.png").read_bytes()
    replace_image(tmp_path / "pets")
    with pytest.raises(CheckpointError, match="on other data: the images of the stream changed"):
        again()
    (tmp_path / "pets/cat/0.png").write_bytes(before)
    before = (tmp_path / "birds/cat/0.png").read_bytes()
    replace_image(tmp_path / "birds")
    with pytest.raises(CheckpointError, match=r"the panel's birds changed .* or delete .*/c to"):
        again()
    (tmp_path / "birds/cat/0.png").write_bytes(before)
    assert "2 steps" in (again() or "")


@pytest.mark.parametrize("divided", [False, True])
def test_a_sweep_keeps_no_record_of_other_images(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    new_process: Callable[[], None],
    divided: bool,
) -> None:
    instant = instead_of_processes(monkeypatch)
    flat(tmp_path / "pets/train" if divided else tmp_path / "pets")
    if divided:
        flat(tmp_path / "pets/test")
    recipe = {
        "stream": {"kind": "sequence", "sets": ["folder:pets"]},
        "backbone": {"name": "tiny-clip"},
        "head": {"kind": "random"},
        "panel": {"sets": []},
        "train": {"batch": 8},
        "where": {"data": str(tmp_path)},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    matrix = {"streams": [str(tmp_path / "r.yaml")], "methods": ["finetune"]}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(matrix), encoding="utf-8")
    words = ("--matrix", tmp_path / "m.yaml", "--out", tmp_path / "out")
    assert call(*words) == call(*words) == 0 and len(instant.ran) == 1
    (file,) = (tmp_path / "out/r").glob("*.json")
    before = read_record(file)
    replace_image(tmp_path / "pets/test" if divided else tmp_path / "pets")
    new_process()
    assert call(*words) == call(*words, "--task", 0) == 1 and len(instant.ran) == 1
    shown = capsys.readouterr().out
    assert "the record of other images under the same names; --retry-failed runs it" in shown
    assert call(*words, "--retry-failed") == 0 and len(instant.ran) == 2
    assert read_record(file.with_name(f"{file.name}.refused")) == before
    after = read_record(file)
    assert before.stream is not None and after.stream is not None
    assert before.stream.split_sha256 != after.stream.split_sha256
    assert replace(after, stream=before.stream) == before


def test_the_demo_keeps_no_record_of_other_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_process: Callable[[], None]
) -> None:
    instant = instead_of_processes(monkeypatch)
    sets = ["--sequence", "digits", "--panel", "colours"]
    words = ["demo", "--out", str(tmp_path), "--chosen", "--methods", "lp-ft", *sets]
    monkeypatch.setattr("sys.argv", ["benchmarks", *words])
    assert program.main() == program.main() == 0 and len(instant.ran) == 1
    monkeypatch.setattr(concepts, "embedded_hash", lambda name, count: f"other {name}")
    new_process()
    assert program.main() == 0 and len(instant.ran) == 2
    assert len(list(tmp_path.glob("*.refused"))) == 1
