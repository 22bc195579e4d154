"""LwF: old units and their logits; equal to Avalanche's where Avalanche's is right."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from avalanche.training.plugins import LwFPlugin as AvalanchesLwF
from avalanche.training.plugins import SupervisedPlugin
from torch import nn

from avalanche_proxyfda import FDAPlugin, LwFPlugin
from avalanche_proxyfda.models import TaskHeads
from tests.plugins.toys import (
    CLASSES,
    Growing,
    Multi,
    Plain,
    backbone,
    classic,
    learn,
    modern,
    same,
    strategy,
    tasks,
)
from tests.reference import distillation as reference


class Expect(SupervisedPlugin[Any]):
    """Checks, at each step, what the plugin added against the loops on whole models."""

    def __init__(self, own: LwFPlugin, weight: float, temperature: float) -> None:
        super().__init__()
        self.own, self.weight, self.temperature = own, weight, temperature
        self.before: nn.Module | None = None
        self.old: dict[int, list[int]] = {}
        self.checked = 0

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.before = copy.deepcopy(strategy.model).eval()

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:  # runs before the plugin's
        self.loss = strategy.loss.item()

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        added, expected = strategy.loss.item() - self.loss, 0.0
        assert self.before is not None
        if not self.old:
            assert added == 0
            return
        for task, units in self.old.items():
            if hasattr(strategy.model, "head") or isinstance(strategy.model, Multi):
                rows = self.features
                own = self.head(strategy.model).forward_single_task(rows, task)
                with torch.no_grad():
                    teacher_rows = self.body(self.before)(strategy.mb_x)
                    other = self.head(self.before).forward_single_task(teacher_rows, task)
            else:
                own = strategy.mb_output
                with torch.no_grad():
                    other = self.before(strategy.mb_x)
            pair = (own[:, units].detach().double(), other[:, units].double())
            expected += float(reference.distillation(*pair, self.temperature))
        assert added == pytest.approx(self.weight * expected, rel=1e-3, abs=1e-6)
        self.checked += 1

    @staticmethod
    def body(model: Any) -> nn.Module:
        return model.backbone if hasattr(model, "backbone") else model.tower

    @staticmethod
    def head(model: Any) -> Any:
        return model.classifier if hasattr(model, "classifier") else model.head

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            if torch.is_grad_enabled():
                self.features = output.detach()

        self.handle = self.body(strategy.model).register_forward_hook(keep)

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.handle.remove()

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        labels = [int(y) for y in strategy.adapted_dataset.targets]
        shared = isinstance(strategy.model, (Plain, Growing))
        task = 0 if shared else strategy.experience.task_labels[0]
        self.old[task] = sorted({*self.old.get(task, []), *labels})


@pytest.mark.parametrize(
    ("model", "benchmark"),
    [
        (Plain, lambda: classic(3)),
        (Growing, lambda: classic(3)),
        (Growing, lambda: modern(3)),
        (Plain, lambda: modern(3)),
        (Multi, lambda: classic(3, True)),
        (Multi, tasks),
        (lambda: TaskHeads(backbone(), 8, [3, 5]), tasks),
    ],
    ids=["static", "growing", "task-free growing", "task-free static", "multi", "sets", "ours"],
)
@pytest.mark.parametrize(("weight", "temperature"), [(1.0, 2.0), (0.5, 4.0)])
def test_the_term_is_the_distillation_of_old_units(
    model: Any, benchmark: Any, weight: float, temperature: float
) -> None:
    own = LwFPlugin(weight, temperature=temperature, teacher_cache="off")
    expect = Expect(own, weight, temperature)
    trained = strategy(model(), expect, own, train_epochs=2)
    stream = benchmark()
    learn(trained, stream)
    steps = trained.clock.train_iterations
    assert 0 < expect.checked < steps and own.teacher_forwards == expect.checked


@pytest.mark.parametrize("model", [Plain, Growing, Multi], ids=["static", "growing", "multi"])
def test_without_batch_norm_and_dropout_it_trains_as_avalanches(model: Any) -> None:
    finals = []
    for kind in (LwFPlugin, AvalanchesLwF):
        torch.manual_seed(0)
        made = model()
        made.backbone[2], made.backbone[4] = nn.Identity(), nn.Identity()
        trained = strategy(made, kind(1.0, temperature=2.0), train_epochs=2)
        finals.append(learn(trained, classic(3, model is Multi)))
    for name, value in finals[0].items():
        torch.testing.assert_close(finals[1][name], value, rtol=1e-4, atol=1e-5)


def test_with_batch_norm_avalanches_teacher_drifts_and_ours_does_not() -> None:
    """The same batch must give the same targets again; Avalanche's plugin gives others."""
    running: dict[str, list[torch.Tensor]] = {"ours": [], "avalanche": []}

    class Look(SupervisedPlugin[Any]):
        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            if strategy.clock.train_exp_counter == 1:
                assert own.teacher is not None
                running["ours"].append(own.teacher.module.backbone[2].running_mean.clone())
                old = theirs.lwf.prev_model
                running["avalanche"].append(old.backbone[2].running_mean.clone())

    own, theirs = LwFPlugin(), AvalanchesLwF()
    learn(strategy(Plain(), own, theirs, Look()), classic(2))
    assert torch.equal(running["ours"][0], running["ours"][-1])
    assert not torch.equal(running["avalanche"][0], running["avalanche"][-1])


def test_multi_head_runs_the_student_once() -> None:
    calls: list[int] = []

    class Count(SupervisedPlugin[Any]):
        def before_training(self, strategy: Any, **kwargs: Any) -> None:
            if not calls:
                strategy.model.backbone[1].register_forward_hook(
                    lambda m, a, o: calls.append(1) if torch.is_grad_enabled() else None
                )

    trained = strategy(Multi(), Count(), LwFPlugin())
    for experience in classic(3, True).train_stream:
        trained.train(experience, eval_streams=[])
    assert len(calls) == trained.clock.train_iterations


def test_known_classes_are_kept_from_the_first_experience() -> None:
    own = LwFPlugin(known_classes=range(4))
    trained = strategy(Plain(), own)
    trained.train(classic(2).train_stream[0], eval_streams=[])
    assert own.teacher_forwards == trained.clock.train_iterations
    old: list[dict[int, list[int]]] = []

    class Look(SupervisedPlugin[Any]):
        def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
            old.append({t: c.tolist() for t, c in initial._old.items()})

    initial = LwFPlugin(teacher="initial", known_classes={0: [0], 1: [2, 1]})
    learn(strategy(TaskHeads(backbone(), 8, [3, 5]), initial, Look()), tasks())
    assert old == [{0: [0], 1: [1, 2]}] * 2  # the initial teacher does not know later classes


def test_the_initial_teacher_of_a_head_that_grows_by_tasks() -> None:
    own = LwFPlugin(teacher="initial", known_classes={0: [0, 1]})
    trained = strategy(Multi(), own, FDAPlugin(num_neighbors=4, teacher="initial"))
    learn(trained, classic(3, True))
    assert own.teacher_forwards == trained.clock.train_iterations


def test_known_classes_that_the_head_does_not_have() -> None:
    experience = classic(3, True).train_stream[0]
    trained = strategy(Multi(), LwFPlugin(known_classes={1: [0]}))
    with pytest.raises(ValueError, match="classes of task 1 are to be kept, but MultiHead"):
        trained.train(experience, eval_streams=[])
    trained = strategy(Plain(), LwFPlugin(known_classes=[9]))
    with pytest.raises(ValueError, match="class 9 of task 0 is to be kept, but its head has 6"):
        trained.train(experience, eval_streams=[])


def test_autocast_reaches_old_heads() -> None:
    class Lower(TaskHeads):
        def forward(self, x: torch.Tensor, task_labels: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return super().forward(x, task_labels)

    own = LwFPlugin()
    trained = strategy(Lower(backbone(), 8, [3, 5]), own)
    for experience in tasks().train_stream:
        trained.train(experience, eval_streams=[])
    assert own.teacher_forwards > 0


def test_classes_met_are_saved() -> None:
    own = LwFPlugin()
    trained = strategy(Plain(), own)
    trained.train(classic(3).train_stream[0], eval_streams=[])
    fresh = LwFPlugin()
    fresh.load_state_dict(own.state_dict())
    assert fresh._seen == own._seen == {(0, 0), (0, 1)}
    again = strategy(Plain(), fresh)
    again.clock.train_exp_counter = 1
    again.train(classic(3).train_stream[1], eval_streams=[])
    assert fresh.teacher_forwards == again.clock.train_iterations


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0.0}, "temperature=0 must be positive"),
        ({"teacher": "initial"}, "say with known_classes which units"),
        ({"known_classes": [-1]}, "known_classes holds -1"),
        ({"known_classes": ["cat"]}, "known_classes holds 'cat'"),
    ],
)
def test_bad_options(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LwFPlugin(**options)


def test_a_multi_task_model_without_known_heads() -> None:
    from avalanche.models import MultiTaskModule

    class Own(MultiTaskModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.classifier = backbone(), nn.ModuleList([nn.Linear(8, 2)] * 3)

        def forward_single_task(self, x: torch.Tensor, task_label: int) -> torch.Tensor:
            return self.classifier[task_label](self.backbone(x))

    trained = strategy(Own(), LwFPlugin())
    with pytest.raises(ValueError, match="name the one that gets the embedding, feature_module="):
        trained.train(classic(3, True).train_stream[0], eval_streams=[])


@pytest.mark.parametrize("weight", [1.0, "auto"])
def test_a_single_old_class_has_no_term(weight: Any) -> None:
    """The distribution over one unit is constant, so there is nothing to keep."""
    ends = []
    for plugins in ((LwFPlugin(weight),), ()):
        torch.manual_seed(0)
        trained = strategy(Plain(dropout=0.0), *plugins)
        for experience in classic(CLASSES).train_stream[:2]:  # a class each
            trained.train(experience, eval_streams=[])
        ends.append(trained.model.state_dict())
    assert same(*ends)
    learn(strategy(Plain(), LwFPlugin(weight)), classic(CLASSES))  # later experiences have a term
