"""``head.kind=text-start`` in runs: the accuracies of the zero-shot head, and then training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from avalanche_proxyfda.models import GrowingTextHead, UnitHeads, UnitLinear
from benchmarks.config import Config
from benchmarks.experiment.prepare import prepare
from benchmarks.experiment.run import run
from benchmarks.results.scores import delta_transfer, transfer
from tests.benchmarks.miniature import config, imagenet_r
from tests.benchmarks.records import recipe

pytestmark = pytest.mark.filterwarnings("ignore:.* ImageNet-R has 30000")
TEXTS, FIXED = {"kind": "text-start"}, {"kind": "zero-shot"}
FROZEN = {"lr": 1e-12, "batch": 32, "eval_batch": 50, "weight_decay": 0}
"""A rate that moves no logit."""


def both(made: dict[str, Any]) -> list[Any]:
    """Records of a run from texts, and of the same run with the fixed zero-shot head."""
    kinds = ("text-start", "zero-shot")
    return [run(recipe("finetune", **made, head__kind=kind)) for kind in kinds]


def test_heads_of_tasks_begin_as_zero_shot_heads_and_learn() -> None:
    short = {"stream__sets": ["digits"], "panel__sets": [], "train__epochs": 1}
    begun, fixed = both(short)
    before = begun.outcome.accuracy[0]
    assert before == fixed.outcome.accuracy[0] and None not in before
    assert begun.cost.parameters_trained > fixed.cost.parameters_trained
    for now, then in zip(begun.outcome.loss_terms, fixed.outcome.loss_terms, strict=True):
        assert now["Loss"][0] < then["Loss"][0]  # the head helps
    assert sum(begun.outcome.accuracy[-1]) > sum(before)
    assert begun.config["head"]["kind"] == "text-start"


def test_a_growing_head_takes_the_texts_of_new_classes(data: Path) -> None:
    made = imagenet_r(data, 2, method="finetune", head=TEXTS, panel={"sets": []}, train=FROZEN)
    fixed = imagenet_r(data, 2, method="finetune", head=FIXED, panel={"sets": []}, train=FROZEN)
    record: Any = run(made)
    zero: Any = run(fixed)
    matrix = record.outcome.accuracy
    assert matrix[0] == (None, None) and matrix[1][1] is None
    # at the end both heads have all 200 classes, and neither was moved
    assert matrix[2] == zero.outcome.accuracy[2]
    assert matrix[1][0] >= matrix[2][0]  # fewer classes to choose among
    assert transfer(record) is None  # the head has no class of the second experience yet
    unseen = zero.outcome.accuracy[0][1]
    assert transfer(zero) == unseen == zero.outcome.accuracy[1][1]
    assert delta_transfer(zero) == 0  # the rate moves nothing


def model_of(made: Config) -> Any:
    return prepare(made).model


def test_the_kind_of_stream_decides_the_head(data: Path) -> None:
    sets = {"kind": "sequence", "sets": ["folder:photo", "folder:sketch"]}
    by_task = model_of(config(data, head=TEXTS, stream=sets))
    assert isinstance(by_task.head, UnitHeads)
    shared = model_of(config(data, head=TEXTS, stream={**sets, "shared_labels": True}))
    assert isinstance(shared.head, UnitLinear) and shared.head.weight.requires_grad
    fixed = model_of(config(data, head=FIXED, stream={**sets, "shared_labels": True}))
    rows = torch.randn(3, 128)
    torch.testing.assert_close(shared.head(rows), fixed.head(rows), rtol=1e-4, atol=1e-3)
    assert isinstance(model_of(imagenet_r(data, 2, head=TEXTS)).head, GrowingTextHead)


def test_a_shared_head_is_measured_before_training(data: Path) -> None:
    stream = {"kind": "sequence", "sets": ["folder:photo", "folder:sketch"], "shared_labels": True}
    made = config(data, method="finetune", head=TEXTS, stream=stream, panel={"sets": []})
    assert None not in run(made).outcome.accuracy[0]  # type: ignore[union-attr]


def test_texts_that_are_missing_are_refused(data: Path) -> None:
    timm = {"name": "timm:mobilenetv2_035", "weights": "random", "image_size": 32}
    sets = {"kind": "sequence", "sets": ["folder:photo"]}
    blind = config(data, backbone=timm, head=TEXTS, stream=sets, panel={"sets": []})
    with pytest.raises(
        ValueError, match=r"head.kind='text-start': .* no text tower; .* head.kind=probe or random"
    ):
        prepare(blind)
