"""Runs of the benchmarks on the second device, checkpoints, and measurements of features."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from avalanche_proxyfda._random import RandomState
from avalanche_proxyfda.features.linear_probe import held_out
from avalanche_proxyfda.features.prototypes import class_prototypes
from avalanche_proxyfda.metrics import Panel, PanelSet, probe_accuracies
from benchmarks.config import read
from benchmarks.experiment import run as run_module
from benchmarks.experiment.provenance import provenance
from benchmarks.experiment.training import StepTimer
from tests.benchmarks.miniature import write_folder
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.methods import toy_plugin
from tests.plugins.toys import Blobs, Plain, classic
from tests.second_device import device as counts


def test_no_step_of_a_run_waits(second: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of steps, the logged loss and the heads by task read nothing in a step."""
    seen: list[Counter[str]] = []
    timers: list[StepTimer] = []

    class Look(StepTimer):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            timers.append(self)

    def after_step(steps: int) -> None:
        seen.append(counts.waits())
        if len(seen) == 24:
            raise BrokenOffError

    monkeypatch.setattr(run_module, "StepTimer", Look)
    config = read(
        {
            "stream": {"kind": "concepts", "sets": ["colours"]},
            "head": {"kind": "zero-shot"},
            "panel": {"sets": []},
            "method": "lwf",
            "options": {"known_classes": [0, 1]},
            "strength": 1.0,
            "train": {"lr": 1e-4, "batch": 4, "eval_batch": 200},
        }
    )
    with pytest.raises(BrokenOffError):
        run_module.run(config, after_step)
    assert len(seen) == 24 and seen[-1] == seen[0], seen[-1] - seen[0]
    (timer,) = timers
    assert len(timer.seconds) == 24 and min(timer.seconds) > 0 and timer.loader_seconds > 0
    machine = provenance(config, second).machine
    assert (machine.device, machine.gpus) == ("Second device", 1)


@pytest.mark.parametrize("augment", ["none", "flip-crop"])
@pytest.mark.parametrize("pipeline", ["tensor", "cached"])
def test_no_step_on_uint8_images_waits(
    pipeline: str, augment: str, second: torch.device, tmp_path: Path
) -> None:
    """The device makes the floats and the crops of a batch without the host."""
    seen: list[Counter[str]] = []

    def after_step(steps: int) -> None:
        seen.append(counts.waits())
        if len(seen) == 8:
            raise BrokenOffError

    write_folder(tmp_path / "photo", ["ant", "bee", "cat"], (40, 36), "RGB", seed=1)
    config = read(
        {
            "stream": {"kind": "sequence", "sets": ["folder:photo"]},
            "head": {"kind": "random"},
            "panel": {"sets": []},
            "method": "rkd",
            "strength": 1.0,
            "train": {"lr": 1e-4, "batch": 4, "eval_batch": 50, "batches": "shuffled"}
            | {"pipeline": pipeline, "augment": augment},
            "where": {"data": str(tmp_path)},
        }
    )
    with pytest.raises(BrokenOffError):
        run_module.run(config, after_step)
    assert len(seen) == 8 and seen[-1] == seen[0], seen[-1] - seen[0]


@pytest.mark.parametrize("method", ["proxy-fda", "rkd"])
def test_a_resumed_training_ends_with_the_same_bits(
    method: str, second: torch.device, tmp_path: Path
) -> None:
    """Dropout draws from the device's own stream, so this stream is resumed too."""
    benchmark = classic(count=96)

    def built(step: int | None) -> Any:
        return build(Plain, toy_plugin(method), BreakOff(step), device=second)

    start = RandomState.capture(second)
    whole = train(built(None), benchmark, tmp_path / "whole")
    start.restore()
    with pytest.raises(BrokenOffError):
        train(built(5), benchmark, tmp_path / "parts")
    torch.rand(3, device=second)  # another process has another stream
    rest = train(built(None), benchmark, tmp_path / "parts")
    for one in (whole, rest):
        one.model.cpu()
        for held in one.optimizer.state_dict()["state"].values():
            held.update({name: value.cpu() for name, value in held.items()})
    assert alike(whole, rest)


def test_measurements_equal_those_of_the_cpu(second: torch.device) -> None:
    model = Plain(dropout=0.0).eval()
    sets = [PanelSet("a", Blobs(60, 3, seed=5), Blobs(30, 3, seed=6), Blobs(30, 3, seed=7))]
    results = []
    for place in (torch.device("cpu"), second):
        model.to(place)
        (features,) = Panel(sets, "backbone", batch_size=16).of(model, place).values()
        centres = class_prototypes(Blobs(60, 3), [0, 1, 2] * 20, model.backbone, place)
        results.append((probe_accuracies(features), centres.cpu()))
    assert results[0][0] == results[1][0]
    torch.testing.assert_close(results[0][1], results[1][1])


def test_a_fifth_is_held_out_by_labels_on_the_device(second: torch.device) -> None:
    labels = torch.arange(40) % 3
    held = held_out(labels.to(second))
    assert held.device == second and torch.equal(held.cpu(), held_out(labels))
