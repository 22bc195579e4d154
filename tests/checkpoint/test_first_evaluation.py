"""Heads that grow in an evaluation before the first training, and copies of a strategy."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from avalanche_proxyfda.checkpoint import CheckpointError, Checkpoints
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.plugins.toys import Growing, Multi, Plain, classic, tasks


@pytest.mark.parametrize(("model", "make"), [(Growing, classic), (Multi, tasks)])
def test_a_training_after_an_evaluation_is_saved_and_resumed(
    model: Any, make: Any, tmp_path: Path
) -> None:
    stream = make()

    def evaluated_first(step: int | None, folder: Path) -> Any:
        built = build(model, BreakOff(step))
        checkpoints = Checkpoints(built, folder, every=2, minutes=None)
        found = checkpoints.resume()
        if found is None:
            built.eval(stream.test_stream)  # the accuracy before training
            torch.manual_seed(1)
        for experience in stream.train_stream[found.experiences if found else 0 :]:
            built.train(experience, eval_streams=[])
            built.eval(stream.test_stream)
            checkpoints.save()
        return built

    whole = evaluated_first(None, tmp_path / "whole")
    held = {id(p) for group in whole.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in whole.model.parameters()}
    with pytest.raises(BrokenOffError):
        evaluated_first(3, tmp_path / "parts")
    assert alike(whole, evaluated_first(None, tmp_path / "parts"))


def test_checkpoints_after_the_evaluation_are_refused_before_a_step_is_lost(
    tmp_path: Path,
) -> None:
    stream, late = classic(), build(Growing)
    late.eval(stream.test_stream)
    Checkpoints(late, tmp_path)
    with pytest.raises(CheckpointError, match="build Checkpoints before that evaluation"):
        late.train(stream.train_stream[0], eval_streams=[])
    assert late.clock.train_iterations == 0


def test_a_copy_of_the_strategy_does_not_save_the_original(tmp_path: Path) -> None:
    stream, original = classic(), build(Plain)
    train(original, stream, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    twin = copy.deepcopy(original)
    with pytest.raises(ValueError, match="was copied from one with Checkpoints"):
        twin.train(stream.train_stream[0], eval_streams=[])
    twin.eval(stream.test_stream)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    twin.plugins = [p for p in twin.plugins if "checkpoint" not in type(p).__module__]
    Checkpoints(twin, tmp_path / "twin")
    twin.train(stream.train_stream[0], eval_streams=[])
