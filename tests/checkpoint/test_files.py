"""Checkpoint files that are torn, altered, foreign or hostile; disks that are full."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from safetensors import safe_open
from safetensors.torch import save_file

from avalanche_proxyfda.checkpoint import (
    CheckpointError,
    Checkpoints,
    UnsavedError,
    clean,
    files,
    is_there,
    load,
    save,
)
from avalanche_proxyfda.checkpoint.files import (
    LATEST,
    PREVIOUS,
    read_latest,
    read_state,
    write_state,
)
from avalanche_proxyfda.checkpoint.tree import decode, encode
from tests.checkpoint.training import BreakOff, build, train
from tests.plugins.toys import Growing, Plain, classic, same

STATE: dict[str, Any] = {
    "numbers": [1, 2.5, float("inf"), True, None, 2**70],
    "nested": ({"a": (1, "b")}, {(1, 2): {3, 1}, 0: b"\x00\xff"}, frozenset({"x"})),
    "tensors": {
        "w": torch.arange(6.0).reshape(2, 3),
        "none": torch.empty(0, 3),
        "scalar": torch.tensor(3),
        "half": torch.ones(2, dtype=torch.bfloat16),
    },
    "arrays": [np.arange(4, dtype=np.uint32), np.float32(0.1), np.int64(-3)],
    "kinds": [torch.device("cpu"), torch.float16],
    "$odd": 1,
}


def test_plain_data_and_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    shared = torch.arange(10.0)
    state = {**STATE, "views": [shared[:4], shared[2:], shared, shared.reshape(2, 5).T]}
    read = read_state(write_state(tmp_path, state))
    assert repr(read) == repr(state)
    assert list(read) == list(state)  # order is part of it
    table: dict[str, Any] = {}
    assert repr(decode(json.loads(json.dumps(encode(state, table))), table)) == repr(state)


@pytest.mark.parametrize("value", [object(), print, torch.nn.Linear(1, 1), np.array(["a"])])
def test_what_is_no_plain_data_is_refused_with_its_place(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UnsavedError, match=r"state\.a\.1 is a .*, which is no plain data"):
        write_state(tmp_path, {"a": [0, value]})
    assert not list(tmp_path.iterdir())


def test_any_flipped_bit_and_any_torn_end_is_noticed(tmp_path: Path) -> None:
    write_state(tmp_path, {"n": 0})
    path = write_state(tmp_path, {"n": 1, "w": torch.arange(5.0)})
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        state, used, warning = read_latest(tmp_path)
        assert state == {"n": 0} and used.name == PREVIOUS and warning is not None, place
    for end in range(0, len(whole), 13):
        path.write_bytes(whole[:end])
        assert read_latest(tmp_path)[0] == {"n": 0}, end
    path.write_bytes(whole)
    assert read_latest(tmp_path)[2] is None
    for name in (LATEST, PREVIOUS):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"No earlier checkpoint is whole: delete"):
        read_latest(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"holds no checkpoint: check the path"):
        read_latest(tmp_path / "elsewhere")


def test_a_damaged_file_never_takes_the_place_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        save(build(Plain), tmp_path)
    (tmp_path / LATEST).write_bytes(b"torn")
    with pytest.warns(
        UserWarning, match=r"resuming from .*previous\.safetensors, which is earlier"
    ):
        assert load(build(Plain), tmp_path) is not None
    move = os.replace

    def killed(source: Any, target: Any) -> None:
        if Path(source).name.endswith(".tmp"):
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save(build(Plain), tmp_path)
    assert load(build(Plain), tmp_path) is not None
    clean(tmp_path)
    assert not tmp_path.exists()


def test_every_function_takes_a_text_and_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for folder in ("~/run", "run", tmp_path / "run"):
        assert save(build(Plain), folder) == Path(folder).expanduser() / LATEST
        assert is_there(folder) and load(build(Plain), folder) is not None
        (tmp_path / "run" / "metrics.csv").touch()
        (tmp_path / "run" / f".{LATEST}-killed.tmp").touch()
        clean(folder)
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.csv"]
        clean(folder)  # nothing is left to delete
    (tmp_path / "run" / "metrics.csv").unlink()
    clean("~/run")
    assert not (tmp_path / "run").exists() and not (tmp_path / "~").exists()
    clean("~/run")  # a missing folder is clean


def rewritten(path: Path, change: Any, **other: str) -> None:
    """A checkpoint file with another state, under a checksum that fits."""
    with safe_open(path, framework="pt") as file:
        meta = dict(file.metadata())
        tensors = {k: file.get_tensor(k).clone() for k in file.keys()}  # noqa: SIM118
    document = json.loads(meta["state"])
    change(document)
    meta["state"] = json.dumps(document)
    meta["sha256"] = files._checksum(meta["state"], tensors)
    save_file(tensors, path, metadata={**meta, **other})


def test_another_format_is_named(tmp_path: Path) -> None:
    path = write_state(tmp_path, {"n": 1})
    rewritten(path, lambda d: None, format="2")
    with pytest.raises(CheckpointError, match=r"has format '2', and this version reads format 1"):
        read_latest(tmp_path)


def test_strides_beyond_the_memory_are_refused(tmp_path: Path) -> None:
    path = write_state(tmp_path, {"w": torch.ones(2, 3).T})

    def hostile(document: Any) -> None:
        assert document == {"w": {"$strided": ["state.w", [3, 2], [1, 3]]}}
        document["w"]["$strided"][2] = [1, 1000]

    rewritten(path, hostile)
    with pytest.raises(CheckpointError, match=r"the tensor 'state\.w' does not fit its memory"):
        read_latest(tmp_path)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    folder = tmp_path / "trained"
    train(build(Plain, BreakOff()), classic(1), folder)
    return folder


def test_a_checkpoint_of_something_else_is_refused_and_nothing_is_changed(trained: Path) -> None:
    path = trained / LATEST
    kept = path.read_bytes()
    fresh = build(Plain, BreakOff())
    before = {k: v.clone() for k, v in fresh.model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"belongs to another configuration"):
        load(fresh, trained, identity="another")
    for other, word in (
        (build(Plain), "plugins"),
        (build(Growing, BreakOff()), "model"),
        (build(Plain, BreakOff(), train_mb_size=12), "train_mb_size: 24 there, 12 here"),
    ):
        with pytest.raises(CheckpointError, match=word):
            load(other, trained)

    def older(document: Any) -> None:
        document["strategy"]["described"]["torch"] = "1.0"

    rewritten(path, older)
    with pytest.raises(CheckpointError, match=r"torch: '1.0' there, .* here"):
        load(fresh, trained)
    assert same(before, fresh.model.state_dict())
    path.write_bytes(kept)
    assert load(fresh, trained) is not None
    assert not same(before, fresh.model.state_dict())


def test_no_class_but_a_metrics_is_ever_made_from_a_file(trained: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    def hostile(document: Any) -> None:
        held = {"avalanche object": f"{__name__}:Hostile", "attributes": {"path": str(marker)}}
        document["strategy"]["evaluator"]["last_metric_results"] = {"x": held}

    rewritten(trained / LATEST, hostile)
    with pytest.raises(CheckpointError, match=r"which is no class of a metric"):
        load(build(Plain, BreakOff()), trained)
    assert not marker.exists()


class Hostile:
    """Records its own creation."""

    def __setattr__(self, name: str, value: Any) -> None:
        Path(value).touch()


def test_a_pickle_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"n": 1}, tmp_path / LATEST)
    with pytest.raises(CheckpointError, match=r"is damaged or no checkpoint"):
        read_latest(tmp_path)


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file of this process may grow beyond ``room`` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_fills_up_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    write_state(tmp_path, {"n": 1})
    kept = (tmp_path / LATEST).read_bytes()
    with full_disk(10_000), pytest.raises(OSError, match=r"cannot be written"):
        write_state(tmp_path, {"n": 2, "w": torch.zeros(20_000)})
    assert (tmp_path / LATEST).read_bytes() == kept
    assert [p.name for p in tmp_path.iterdir()] == [LATEST]


def test_training_goes_on_without_a_checkpoint_and_says_so(tmp_path: Path) -> None:
    whole = train(build(Plain), classic(1), tmp_path / "whole", every=None)
    strategy = build(Plain)
    with (
        full_disk(10_000),
        pytest.warns(UserWarning, match=r"no checkpoint could be saved"),
        pytest.raises(OSError, match=r"cannot be written"),  # the one after the experience
    ):
        train(strategy, classic(1), tmp_path / "full", every=2)
    assert same(whole.model.state_dict(), strategy.model.state_dict())


def test_a_save_between_experiences_that_may_fail_warns_and_keeps_the_earlier_one(
    tmp_path: Path,
) -> None:
    strategy = build(Plain)
    checkpoints = Checkpoints(strategy, tmp_path)
    assert checkpoints.save_if_possible() == tmp_path / LATEST
    kept = (tmp_path / LATEST).read_bytes()
    words = rf"no checkpoint could be saved, and training continues without it: .*{LATEST}"
    with full_disk(1_000), pytest.warns(UserWarning, match=words):
        assert checkpoints.save_if_possible() is None
    assert (tmp_path / LATEST).read_bytes() == kept and len(list(tmp_path.iterdir())) == 1


@contextmanager
def as_nobody() -> Iterator[None]:
    """Drop root's rights for a while; root may write to any file."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_that_cannot_be_written_is_an_error() -> None:
    folder = Path(tempfile.mkdtemp())  # tmp_path is in a folder that is its owner's alone
    try:
        write_state(folder, {"n": 1})
        folder.chmod(0o555)
        with as_nobody(), pytest.raises(PermissionError, match=re.escape(str(folder))):
            write_state(folder, {"n": 2})
        with as_nobody(), pytest.raises(PermissionError, match=re.escape(str(folder))):
            write_state(folder / "below", {"n": 2})
        folder.chmod(0o700)
        assert [p.name for p in folder.iterdir()] == [LATEST]
        assert read_latest(folder)[0] == {"n": 1}
    finally:
        shutil.rmtree(folder)


def test_a_file_where_the_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("", encoding="utf-8")
    with pytest.raises(FileExistsError):
        save(build(Plain), tmp_path / "c")


class Forgetful(SupervisedPlugin[Any]):
    """Holds a value that no checkpoint can store."""

    def __init__(self) -> None:
        super().__init__()
        self.data = classic(1)


def test_a_plugin_that_cannot_be_saved_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsavedError, match=r"Forgetful\.data is a .*give its owner state_dict"):
        save(build(Plain, Forgetful()), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_optimizer_with_a_nameless_tensor_is_refused(tmp_path: Path) -> None:
    strategy = build(Plain)
    strategy.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(7))]})
    with pytest.raises(CheckpointError, match=r"a tensor of shape \(7,\), no parameter of the"):
        save(strategy, tmp_path)
