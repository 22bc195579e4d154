"""A finished run never loses its numbers: failures of its extras become warnings."""

from __future__ import annotations

import csv
import hashlib
import warnings
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

    monkeypatch.setattr(kept, "write_bytes", full)
    config = recipe("finetune", **SHORT, where__keep_weights=True)
    with pytest.warns(UserWarning, match=r"was not kept \(OSError.*No space.*make room in the f"):
        record = run(config, folder=tmp_path / config.label)
    assert record.status == "finished" and record.artefacts == {} and record.outcome is not None


def test_loggers_that_fail_in_training_end_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, opened, steps = loggers._open, dict[str, Any](), list[int]()

    def opens(name: str, *rest: Any) -> Any:
        opened[name] = real(name, *rest)
        return opened[name]

    def step(made: int) -> None:
        steps.append(1)
        if len(steps) == 2:
            opened["text"][0].file.close()  # the next line fails
            (tmp_path / "log.txt").unlink()
            opened["csv"][0]._file = full = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115
            opened["csv"][0]._lines = csv.writer(full)

    monkeypatch.setattr(loggers, "_open", opens)
    config = recipe("finetune", **SHORT, where__loggers=["text", "csv"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record = run(config, step, tmp_path)
    said = sorted(str(w.message) for w in caught if " lacks lines; the " in str(w.message))
    assert len(said) == 2 and len(steps) > 2  # once each, though closing the full file fails too
    assert said[0].startswith(f"{tmp_path}/csv/metrics.csv cannot be written (OSError: [Errno 28]")
    assert said[1].startswith("where.loggers: text failed (ValueError: I/O operation on closed f")
    assert said[1].endswith("the run goes on, and its record has all numbers")
    assert record.reproducible() == run(recipe("finetune", **SHORT)).reproducible()


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
        run(config, lambda _: steps.append(1), tmp_path)
    assert steps == []
