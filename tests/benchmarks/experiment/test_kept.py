"""A finished run never loses its numbers: failures of its extras become warnings."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from avalanche_proxyfda.models import Backbone
from avalanche_proxyfda.tuned import DESCRIPTION, WEIGHTS
from avalanche_proxyfda.tuned.files import state_bytes
from benchmarks.config import Config
from benchmarks.experiment import kept, loggers
from benchmarks.experiment.kept import check_keepable
from benchmarks.experiment.prepare import Prepared
from benchmarks.experiment.run import run
from tests.benchmarks.records import recipe

SHORT = {"train__epochs": 1, "stream__sets": ["digits"], "panel__sets": []}


class Tied(nn.Module):
    """A module with one tensor under two names, as in timm's CoaT, and one that is a view."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.two = nn.Linear(3, 3)
        self.two.weight = self.one.weight
        self.register_buffer("rows", torch.arange(6.0).reshape(2, 3).T)


def test_tensors_that_share_memory_are_written() -> None:
    model = Tied()
    with pytest.raises(RuntimeError, match="share memory"):
        save({k: v.detach().contiguous() for k, v in model.state_dict().items()})
    found = load(state_bytes(model.state_dict()))
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[k], v) for k, v in model.state_dict().items())


def test_timms_coat_is_written() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("coat_tiny", num_classes=0)
    found = load(state_bytes(model.state_dict()))
    assert found.keys() == model.state_dict().keys()


def prepared_with(tower: nn.Module, head: nn.Module) -> Any:
    """A run before its first step whose model has the parts."""
    model = nn.Sequential(OrderedDict(tower=tower, head=head))
    recipe_of, view = {"name": "timm:x"}, {"library": "timm"}
    backbone = Backbone(
        "x", tower, 3, torch.ones_like, torch.ones_like, None, None, view, recipe_of
    )
    stream = SimpleNamespace(tasks=False, classes=(("a", "b"),))
    return SimpleNamespace(model=model, backbone=backbone, stream=stream)


def test_the_file_of_a_tied_model_is_that_of_the_artefact(tmp_path: Path) -> None:
    config = recipe("finetune", where__keep_weights=True)
    prepared = prepared_with(Tied(), nn.Linear(3, 2))
    check_keepable(config, prepared)
    artefacts = kept.keep(config, prepared, tmp_path)
    assert artefacts == {
        f"{tmp_path.name}/{name}": hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in (WEIGHTS, DESCRIPTION)
    }
    state = load((tmp_path / WEIGHTS).read_bytes())
    assert torch.equal(state["tower.one.weight"], state["tower.two.weight"])
    assert kept.keep(recipe("finetune"), prepared, tmp_path) == {}


def test_a_head_that_cannot_be_described_is_refused_before_training() -> None:
    prepared = prepared_with(Tied(), nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(ValueError, match=r"keep_weights=true: head is a Sequential.*; or set wh"):
        check_keepable(recipe("finetune"), prepared)


def test_a_full_disk_costs_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    class Closed:
        def close(self) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "write_bytes", full)
    real = loggers._open

    def opened(name: str, folder: Path, config: Config, stack: Any, again: bool) -> Any:
        stack.callback(loggers._close, name, Closed().close)
        return real(name, folder, config, stack, again)

    monkeypatch.setattr(loggers, "_open", opened)
    config = recipe("finetune", **SHORT, where__keep_weights=True, where__loggers=["text"])
    with (
        pytest.warns(UserWarning, match=r"was not kept \(OSError.*No space.*make room in the f"),
        pytest.warns(UserWarning, match=r"text could not be closed .*the record of the run has"),
    ):
        record = run(config, folder=tmp_path / config.label)
    assert record.status == "finished" and record.artefacts == {} and record.outcome is not None


class Odd(nn.Module):
    """A module whose state holds an object."""

    def get_extra_state(self) -> Any:
        return {"scale": 3}

    def set_extra_state(self, state: Any) -> None:
        """Load nothing."""


def test_what_cannot_be_written_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.experiment import run as module

    real = module.prepare

    def prepared(config: Config) -> Prepared:
        found = real(config)
        found.model.odd = Odd()
        return found

    monkeypatch.setattr(module, "prepare", prepared)
    steps: list[int] = []
    config = recipe("lp-ft", **SHORT, where__keep_weights=True)
    with pytest.raises(ValueError, match=r"odd\._extra_state of the model cannot be written"):
        run(config, lambda: steps.append(1), tmp_path)
    assert steps == []
