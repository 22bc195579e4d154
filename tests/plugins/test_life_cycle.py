"""Effects of the plugins on a strategy, step by step, by counts and values."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.training import Naive
from avalanche.training.plugins import (
    EarlyStoppingPlugin,
    EvaluationPlugin,
    EWCPlugin,
    LRSchedulerPlugin,
    LwFPlugin,
    ReplayPlugin,
    SupervisedPlugin,
)
from torch import Tensor, nn

from avalanche_proxyfda import FDALoss, FDAPlugin, PKTPlugin, ProxyFDAPlugin
from avalanche_proxyfda.plugins.base.lifecycle import Terms
from avalanche_proxyfda.strategies import EfficientNaive
from tests.methods import ON_GRAPH, PLUGINS
from tests.plugins.toys import (
    Growing,
    Multi,
    Plain,
    classic,
    hooks_of,
    learn,
    modern,
    same,
    strategy,
    tasks,
)

BOTH = tuple(PLUGINS[method] for method in ON_GRAPH)


class Watcher(SupervisedPlugin[Any]):
    """Counts student forwards a step and looks at the strategy between the callbacks."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.modes: set[bool] = set()
        self.hooks: set[int] = set()
        self._count = 0

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        strategy.model.backbone[1].register_forward_hook(self._called)

    def _called(self, module: nn.Module, args: Any, output: Any) -> None:
        self._count += 1

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self._count = 0

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.calls.append(self._count)
        self.modes.add(all(m.training for m in strategy.model.modules()))


@pytest.mark.parametrize("benchmark", [classic, modern], ids=["nc", "class_incremental"])
@pytest.mark.parametrize("model", [Plain, Growing], ids=["static", "growing"])
@pytest.mark.parametrize("adam", [False, True], ids=["sgd", "adamw"])
@pytest.mark.parametrize("plugin", BOTH)
def test_streams_heads_and_optimizers(benchmark: Any, model: Any, adam: bool, plugin: Any) -> None:
    own = plugin(num_neighbors=4, samples_per_class=2)
    trained = strategy(model(), own, adam=adam, train_epochs=2)
    learn(trained, benchmark())
    metrics = trained.evaluator.get_last_metrics()
    name = f"{own.name}_alignment_Epoch/train_phase/train_stream"
    assert metrics[name] > 0
    assert hooks_of(trained.model) == 0
    assert own.teacher is None and own.skipped == 0


@pytest.mark.parametrize("plugin", BOTH)
@pytest.mark.parametrize("benchmark", [tasks, lambda: classic(3, True)], ids=["sets", "nc"])
def test_multi_head(plugin: Any, benchmark: Any) -> None:
    trained = strategy(Multi(), plugin(num_neighbors=4))
    learn(trained, benchmark())
    own = trained.plugins[0]
    assert str(own.source) == "classifier:input"
    assert own.teacher_forwards == trained.clock.train_iterations > 5
    assert (
        trained.evaluator.get_last_metrics()[f"{own.name}_alignment_Epoch/train_phase/train_stream"]
        > 0
    )


@pytest.mark.parametrize(
    "other",
    [LwFPlugin, lambda: EWCPlugin(0.1), lambda: ReplayPlugin(20)],
    ids=["lwf", "ewc", "replay"],
)
@pytest.mark.parametrize("first", [True, False], ids=["ours-first", "ours-last"])
@pytest.mark.filterwarnings("ignore:hard_class_batches gives way")
@pytest.mark.filterwarnings("ignore:num_neighbors=4 is clamped")
def test_beside_other_plugins(other: Any, first: bool) -> None:
    plugins = [ProxyFDAPlugin(num_neighbors=4), other()]
    trained = strategy(Growing(), *(plugins if first else plugins[::-1]))
    learn(trained, classic(3))
    assert plugins[0].teacher_forwards == trained.clock.train_iterations > 5
    assert hooks_of(trained.model) == 0


def test_schedulers_periodic_evaluation_and_early_stopping() -> None:
    model, own = Plain(), FDAPlugin(num_neighbors=4)
    from avalanche.evaluation.metrics import accuracy_metrics

    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    benchmark = classic(2)
    trained = Naive(
        model=model,
        optimizer=optimizer,
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=24,
        train_epochs=6,
        eval_mb_size=60,
        eval_every=1,
        plugins=[
            own,
            LRSchedulerPlugin(torch.optim.lr_scheduler.StepLR(optimizer, 2)),
            EarlyStoppingPlugin(1, "test_stream", margin=2.0),  # no epoch improves by that margin
        ],
        evaluator=EvaluationPlugin(accuracy_metrics(epoch=True, stream=True), loggers=[]),
    )
    for experience in benchmark.train_stream:
        trained.train(experience, eval_streams=[benchmark.test_stream])
        assert hooks_of(model) == 0 and own.teacher is None
    assert trained.clock.train_exp_counter == 2
    assert trained.clock.train_exp_epochs < 5


def test_training_a_whole_stream_in_one_call() -> None:
    one, two = (strategy(Plain(), FDAPlugin(num_neighbors=4)) for _ in range(2))
    torch.manual_seed(0)
    one.train(classic().train_stream, eval_streams=[])
    torch.manual_seed(0)
    for experience in classic().train_stream:
        two.train(experience, eval_streams=[])
    assert same(one.model.state_dict(), two.model.state_dict())


def test_one_student_forward_and_one_shared_teacher_forward_a_step() -> None:
    watcher = Watcher()
    live: Any = {"num_neighbors": 4, "teacher_cache": "off"}
    plugins = [FDAPlugin(**live), ProxyFDAPlugin(**live)]
    trained = strategy(Plain(), watcher, *plugins, train_epochs=2)
    trained.train(classic().train_stream[0], eval_streams=[])
    steps = trained.clock.train_iterations
    assert steps > 4 and watcher.calls == [1] * steps
    assert plugins[0].teacher_forwards == steps and plugins[1].teacher_forwards == 0
    assert watcher.modes == {True}  # the student stays in train mode, all of it


def test_plugins_that_ask_for_different_teachers_get_them() -> None:
    plugins = [FDAPlugin(num_neighbors=4), FDAPlugin(num_neighbors=4, teacher="initial", name="b")]
    trained = strategy(Plain(), *plugins)
    learn(trained, classic())
    steps = trained.clock.train_iterations
    assert [p.teacher_forwards for p in plugins] == [steps, steps]


class Teachers(SupervisedPlugin[Any]):
    """Keeps the teacher's weights at the first step and at the end of every experience."""

    def __init__(self, own: FDAPlugin) -> None:
        super().__init__()
        self.own = own
        self.first: list[dict[str, Tensor]] = []
        self.last: list[dict[str, Tensor]] = []
        self.given: list[dict[str, Tensor]] = []

    def _copy(self, module: nn.Module) -> dict[str, Tensor]:
        return {k: v.clone() for k, v in module.state_dict().items() if k.startswith("backbone")}

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        self.given.append(self._copy(strategy.model))

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        assert self.own.teacher is not None
        self.first.append(self._copy(self.own.teacher.module))

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        assert self.own.teacher is not None
        module = self.own.teacher.module
        self.last.append(self._copy(module))
        assert not any(m.training for m in module.modules())
        assert not any(p.requires_grad for p in module.parameters())
        assert hooks_of(module) == 0


@pytest.mark.parametrize("choice", ["previous", "initial"])
def test_the_teacher_is_the_right_model_and_never_changes(choice: Any) -> None:
    own = FDAPlugin(num_neighbors=4, teacher=choice)
    seen = Teachers(own)
    trained = strategy(Plain(), own, seen)
    learn(trained, classic(3))
    for first, last in zip(seen.first, seen.last, strict=True):
        assert same(first, last)  # running statistics of batch normalisation included
    expected = seen.given if choice == "previous" else [seen.given[0]] * 3
    for found, right in zip(seen.first, expected, strict=True):
        assert same(found, right)
    assert not same(seen.given[0], seen.given[1])


@pytest.mark.parametrize("plugin", BOTH)
def test_at_weight_zero_nothing_is_different_from_plain_training(plugin: Any) -> None:
    finals = []
    for plugins in ([], [plugin(num_neighbors=4, weight=0.0, hard_class_batches=False)]):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        trained = strategy(Plain(), *plugins, train_epochs=2)
        state = learn(trained, classic())
        drawn = (torch.rand(1), random.random(), np.random.rand())  # noqa: NPY002
        finals.append((state, drawn))
    assert same(finals[0][0], finals[1][0])
    assert finals[0][1] == finals[1][1]


@pytest.mark.parametrize("workers", [0, 2])
def test_prototypes_and_batches_draw_nothing_from_the_random_streams(workers: int) -> None:
    own = ProxyFDAPlugin(num_neighbors=4, classes_per_batch=3, samples_per_class=4)
    trained = strategy(Plain(dropout=0.0), own)
    experience = classic(1).train_stream[0]
    torch.manual_seed(0)
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    trained.train(experience, eval_streams=[], num_workers=workers)
    after = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    assert own.teacher_forwards > trained.clock.train_iterations  # prototypes were computed
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


class LossAt(SupervisedPlugin[Any]):
    """Notes the strategy's loss at its place among the plugins."""

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.value = strategy.loss.item()


def test_the_term_is_added_with_its_weight() -> None:
    before, after, experience = LossAt(), LossAt(), classic(2).train_stream[0]
    own = FDAPlugin(num_neighbors=4, weight=2.5, hard_class_batches=False)
    trained = strategy(Plain(dropout=0.0), before, own, after, train_mb_size=60)
    trained.train(experience, eval_streams=[])
    assert trained.clock.train_iterations == 1  # one batch of all samples, in any order
    images = torch.stack([item[0] for item in experience.dataset.eval()])
    student, teacher = Plain(dropout=0.0).train(), Plain(dropout=0.0).eval()
    expected = FDALoss(4)(student.backbone(images), teacher.backbone(images)).item()
    metrics = trained.evaluator.get_last_metrics()
    assert metrics["FDA_alignment_Epoch/train_phase/train_stream"] == pytest.approx(expected)
    assert after.value - before.value == pytest.approx(2.5 * expected, rel=1e-4)


def test_own_parameters_learn_and_stay_out_of_the_strategys_optimizer() -> None:
    own = ProxyFDAPlugin(num_neighbors=4)
    trained = strategy(Plain(), own)
    trained.train(classic().train_stream[0], eval_streams=[])
    assert own.loss is not None and own.optimizer is not None
    ours = {id(p) for p in own.loss.parameters()}
    theirs = {id(p) for g in trained.optimizer.param_groups for p in g["params"]}
    assert not ours & theirs
    fresh = own.build_loss(8, 24)
    for name, value in own.loss.named_parameters():
        assert not torch.equal(value, dict(fresh.named_parameters())[name]), name
    assert own.optimizer.param_groups[0]["weight_decay"] == 0


@pytest.mark.parametrize("plugin", BOTH)
@pytest.mark.parametrize("workers", [0, 2])
def test_same_seed_same_weights_whatever_the_workers(plugin: Any, workers: int) -> None:
    def final(count: int) -> dict[str, Tensor]:
        torch.manual_seed(3)
        trained = strategy(Plain(), plugin(num_neighbors=4, classes_per_batch=2), train_epochs=2)
        return learn(trained, classic(2), num_workers=count)

    assert same(final(0), final(workers))


def test_a_batch_of_one_is_skipped_and_counted_by_the_epoch() -> None:
    own = FDAPlugin(num_neighbors=4, hard_class_batches=False)
    model = Plain()
    model.backbone[2] = nn.Identity()  # batch normalisation itself refuses one sample
    trained = strategy(model, own, train_mb_size=59, train_epochs=3)
    trained.train(classic(2).train_stream[0], eval_streams=[])
    assert own.skipped == 3
    metrics = trained.evaluator.get_last_metrics()
    assert metrics["FDA_skipped_batches_Epoch/train_phase/train_stream"] == 1


def test_an_exception_in_training_leaves_a_plugin_that_works() -> None:
    class Stop(SupervisedPlugin[Any]):
        armed = True

        def after_forward(self, strategy: Any, **kwargs: Any) -> None:
            if self.armed:
                raise KeyboardInterrupt

    own, stop = FDAPlugin(num_neighbors=4), Stop()
    trained = strategy(Plain(), own, stop)
    experience = classic().train_stream[0]
    with pytest.raises(KeyboardInterrupt):
        trained.train(experience, eval_streams=[])
    stop.armed = False
    trained.train(experience, eval_streams=[])
    assert hooks_of(trained.model) == 0


def test_a_second_try_after_an_exception_keeps_the_teacher() -> None:
    class StopAtTheSecondStep(SupervisedPlugin[Any]):
        def __init__(self) -> None:
            super().__init__()
            self.armed, self.teachers = True, []

        def before_forward(self, strategy: Any, **kwargs: Any) -> None:
            self.teachers.append(own.teacher)
            if self.armed and strategy.clock.train_exp_iterations == 1:
                raise KeyboardInterrupt

    own, stop = FDAPlugin(num_neighbors=4), StopAtTheSecondStep()
    trained = strategy(Plain(), own, stop)
    with pytest.raises(KeyboardInterrupt):
        trained.train(classic().train_stream[0], eval_streams=[])
    stop.armed = False
    trained.train(classic().train_stream[0], eval_streams=[])
    assert len({id(teacher) for teacher in stop.teachers}) == 1  # not the half-trained student


class Nothing(PKTPlugin):
    """A method that has no term in every other batch."""

    def compare(self, student: Tensor, teacher: Tensor) -> Terms:
        self.batches = getattr(self, "batches", 0) + 1
        return {} if self.batches % 2 else super().compare(student, teacher)


@pytest.mark.parametrize("graph_from", ["micro-batch", "accumulated"])
def test_batches_without_a_term_add_nothing(graph_from: Any) -> None:
    own = Nothing(name="own", graph_from=graph_from)
    kind: dict[str, Any] = {"kind": EfficientNaive, "accumulate": 1}
    trained = strategy(Plain(), own, **kind)
    trained.train(classic(1).train_stream[0], eval_streams=[])
    assert own.batches == 5
    name = "own_divergence_Epoch/train_phase/train_stream"
    assert trained.evaluator.get_last_metrics()[name] > 0


def test_an_experience_that_was_refused_before_its_first_batch_begins_with_the_next_try() -> None:
    own = FDAPlugin(num_neighbors=4, hard_class_batches=False)
    trained = strategy(Plain(), own, train_mb_size=64)
    with pytest.raises(ValueError, match="loader is empty"):
        trained.train(classic(2).train_stream[0], eval_streams=[], drop_last=True)
    assert not own.state_dict()["inside"]
