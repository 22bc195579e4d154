"""Gradients of terms on reference data, against a second model that is trained by hand."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda import EfficientNaive, FDAPlugin
from avalanche_proxyfda.data.reference import ReferenceData
from benchmarks.perf.counting import Operations
from tests.methods import toy_plugin
from tests.plugins.test_reference_data import Moved, data
from tests.plugins.toys import Chain, Plain, classic, hooks_of, learn, same, strategy


class FirstStep(SupervisedPlugin[Any]):
    """Notes batches and gradients of the first optimizer step, and then stops to note."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[Tensor, Tensor]] = []
        self.gradients: list[Tensor] = []
        self.losses: list[Tensor] = []

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        if not self.gradients:
            self.batches.append((strategy.mb_x.clone(), strategy.mb_y.clone()))
            self.losses.append(strategy.loss.detach().clone())

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        if not self.gradients:
            self.gradients = [p.grad.clone() for p in strategy.model.parameters()]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_gradient_is_that_of_both_losses(accumulate: int) -> None:
    model, shared, first = Plain(dropout=0.0), data(), FirstStep()
    twin, teacher = copy.deepcopy(model), copy.deepcopy(model).eval()
    own = Moved(3.0, reference_data=shared)
    options: dict[str, Any] = {"kind": EfficientNaive, "accumulate": accumulate}
    learn(strategy(model, own, first, **options), classic(1))

    total = torch.zeros(())
    for step, (x, y) in enumerate(first.batches):
        images = shared.batch_of(0, step, torch.device("cpu")).images
        student = twin.backbone(images)
        moved = (student - teacher.backbone(images).detach()).square().mean()
        loss = nn.functional.cross_entropy(twin(x), y) + 3.0 * moved
        assert float(first.losses[step]) == pytest.approx(float(loss), rel=1e-5)
        total = total + loss / accumulate
    assert len(first.batches) == accumulate
    total.backward()
    for found, parameter in zip(first.gradients, twin.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_reads_the_autocast_of_the_training_forward(precision: Any) -> None:
    own = Moved(reference_data=data())
    trained = strategy(
        Plain(dropout=0.0), own, kind=EfficientNaive, precision=precision, accumulate=2
    )
    trained.scaler = trained.scaler and torch.amp.GradScaler("cpu", init_scale=8.0)
    learn(trained, classic(1))
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert {student.dtype for student, *_ in own.seen} == {dtype}
    assert {values.dtype for _, values, _ in own.seen} == {dtype}
    assert trained.skipped_updates == 0


def test_reference_images_do_not_enter_the_bank_of_training_features() -> None:
    """A weight of 0 leaves batches, scale and bias as they are without reference data."""
    ends, sigmoids = [], []
    for given in ({}, {"reference_data": data(24, batch=12), "reference_weight": 0.0}):
        torch.manual_seed(0)
        own = FDAPlugin(
            num_neighbors=3, classes_per_batch=2, hard_class_batches=True, mining="bank", **given
        )
        ends.append(learn(strategy(Plain(), own, train_epochs=2), classic(1)))
        sigmoids.append((float(own.sigmoid().scale), float(own.sigmoid().bias)))
    assert same(*ends)
    assert sigmoids[0] == sigmoids[1]


@pytest.mark.skipif(torch.__version__ < (2, 11), reason="torch 2.6 divides the graph at a hook")
@pytest.mark.parametrize("part", ["", "backbone"])
def test_a_compiled_model_runs_the_reference_batch_without_its_code(part: str) -> None:
    """The code runs as often as without reference data."""
    calls: list[int] = []

    def counted(graph: Any, inputs: Any) -> Any:
        def call(*given: Any) -> Any:
            calls.append(1)
            return graph(*given)

        return call

    def learnt(compiled: bool, *plugins: Any) -> int:
        torch.compiler.reset()
        torch.manual_seed(0)
        calls.clear()
        model = Plain(dropout=0.0)
        model.backbone = Chain(*model.backbone)
        if compiled:
            model.get_submodule(part).compile(backend=counted)
        before = model.get_submodule(part)._compiled_call_impl
        learn(strategy(model, *plugins, train_mb_size=60), classic(1))
        assert model.get_submodule(part)._compiled_call_impl is before
        return len(calls)

    plain, own = (Moved(reference_data=data()) for _ in range(2))
    assert learnt(False, plain) == 0 < learnt(True) == learnt(True, own)
    torch.compiler.reset()
    ends = ([student for student, *_ in each.seen] for each in (plain, own))
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


class Steps(SupervisedPlugin[Any]):
    """Notes the synchronisations between the forward and the backward of each step."""

    def __init__(self, seen: Operations) -> None:
        super().__init__()
        self.seen, self.noted = seen, list[Counter[str]]()

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.seen.syncs.clear()

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.noted.append(Counter(self.seen.syncs))


def test_a_step_waits_for_nothing() -> None:
    own = toy_plugin("rkd", reference_data=data(), teacher_cache="exact")
    own._watch._every = 1000
    with Operations() as seen:
        noted = Steps(seen)
        learn(strategy(Plain(), noted, own, train_epochs=2), classic(1))
    for syncs in noted.noted[4:]:  # after the first pass
        assert set(syncs) <= {"lift_fresh"}  # row numbers, in memory of the host


def test_no_student_and_no_batch_is_kept_after_an_experience() -> None:
    model, own = Plain(), Moved(reference_data=ReferenceData(torch.randn(9, 1, 4, 4), batch=8))
    learn(strategy(model, own), classic(1))
    assert own._pass is None
    assert own._answers == {} or all(
        a.teacher is own.initial_reference for a in own._answers.values()
    )
    assert hooks_of(model) == 0
