"""LP-FT: the probe is the head before the first step, whatever the head; and freezing."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.models.utils import avalanche_forward
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda import LPFTPlugin, RKDPlugin, WiSEFTPlugin
from avalanche_proxyfda.features.linear_probe import GRID
from avalanche_proxyfda.metrics import fit_probe
from avalanche_proxyfda.models import TaskHeads
from tests.plugins.toys import (
    Blobs,
    Growing,
    Multi,
    Plain,
    backbone,
    classic,
    hooks_of,
    learn,
    modern,
    strategy,
    tasks,
)


def warm(model: nn.Module) -> nn.Module:
    """Return ``model`` with running statistics that differ from a batch's."""
    body = model.backbone if hasattr(model, "backbone") else model.tower
    for _ in range(5):
        body(Blobs(60, seed=3).images)
    return model


class FirstStep(SupervisedPlugin[Any]):
    """Logits of the training data in eval mode, before anything is learnt.

    Attributes:
        logits: logits of each experience, [N, C].
        accuracy: among the classes of the experience.
        fitted: accuracy of the probe of an experience with one task, if ``own`` is given.
    """

    def __init__(self, own: LPFTPlugin | None = None) -> None:
        super().__init__()
        self.own = own
        self.logits: list[Tensor] = []
        self.accuracy: list[float] = []
        self.fitted: list[float] = []

    @torch.no_grad()
    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_exp_epochs:
            return
        assert all(m.training for m in strategy.model.modules())
        strategy.model.eval()
        images, targets, *task = zip(*strategy.adapted_dataset.eval(), strict=True)
        given, labels = torch.tensor(task[0]) if task else 0, torch.tensor(targets)
        logits = avalanche_forward(strategy.model, torch.stack(images), given)
        classes = labels.unique()
        predicted = classes[logits[:, classes].argmax(dim=1)]
        self.logits.append(logits)
        self.accuracy.append(float((predicted == labels).double().mean()))
        if self.own is not None:
            self.fitted += self.own.fitted.values()
        strategy.model.train()


@pytest.mark.parametrize(
    ("model", "benchmark"),
    [
        (Plain, lambda: classic(3)),
        (Growing, lambda: classic(3)),
        (Growing, lambda: modern(3)),
        (Multi, lambda: classic(3, True)),
        (Multi, tasks),
        (lambda: TaskHeads(backbone(), 8, [3, 5]), tasks),
    ],
    ids=["static", "growing", "task-free", "multi", "sets", "ours"],
)
@pytest.mark.parametrize("l2", [None, 1e-3])
def test_the_head_is_the_probe_before_the_first_step(model: Any, benchmark: Any, l2: Any) -> None:
    torch.manual_seed(0)  # of the heads, and of the training between the probes
    own = LPFTPlugin(l2=l2)
    first = FirstStep(own)
    learn(strategy(warm(model()), own, first), benchmark())
    assert len(first.accuracy) > 1
    # a random head has about 0.5 of two classes; old units of a single head are left out
    assert first.accuracy == pytest.approx(first.fitted, abs=1e-6)
    assert min(first.fitted) > 0.8
    assert own.reference is None


def test_only_the_rows_of_the_experiences_classes_change() -> None:
    rows: list[Tensor] = []

    class Look(SupervisedPlugin[Any]):
        def before_training(self, strategy: Any, **kwargs: Any) -> None:
            rows.append(strategy.model.classifier.weight.detach().clone())

        def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
            rows.append(strategy.model.classifier.weight.detach().clone())

    learn(strategy(Plain(), LPFTPlugin(), Look()), classic(3))
    for experience in range(3):
        before, after = rows[2 * experience], rows[2 * experience + 1]
        changed = [bool((before[c] != after[c]).any()) for c in range(6)]
        assert changed == [c // 2 == experience for c in range(6)]


def test_the_rows_are_those_of_a_probe_on_what_enters_the_layer() -> None:
    first = FirstStep()
    model = warm(Plain())
    data = classic(1).train_stream[0].dataset.eval()
    with torch.no_grad():
        images = torch.stack([x for x, *_ in data])
        rows = model.eval().backbone(images)
    probe = fit_probe(rows, torch.tensor(list(data.targets)), 6, 1e-3, normalize=False)
    trained = strategy(model, LPFTPlugin(l2=1e-3), first)
    trained.train(classic(1).train_stream[0], eval_streams=[])
    torch.testing.assert_close(first.logits[0].double(), probe.logits(rows), rtol=1e-4, atol=1e-3)


def test_with_one_image_a_class_the_penalty_is_the_largest() -> None:
    models = warm(Plain()), warm(Plain())
    logits = []
    for model, l2 in zip(models, (None, max(GRID)), strict=True):
        learn(strategy(model, LPFTPlugin(l2=l2), first := FirstStep()), classic(1, count=6))
        logits += first.logits
    assert torch.equal(*logits)


def test_the_evaluation_view_is_probed() -> None:
    from avalanche.benchmarks import nc_benchmark

    seen: list[bool] = []

    def brighter(image: Tensor) -> Tensor:
        return image + 1000

    benchmark = nc_benchmark(
        Blobs(),
        Blobs(60, seed=1),
        1,
        task_labels=False,
        fixed_class_order=list(range(6)),
        train_transform=brighter,
        eval_transform=None,
    )
    from avalanche_proxyfda.teacher.teacher import FeatureTeacher

    class Spy(FeatureTeacher):
        def values(self, images: Tensor, *args: Any, **kwargs: Any) -> Any:
            seen.append(bool(images.max() > 500))
            return super().values(images, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avalanche_proxyfda.plugins.lp_ft.FeatureTeacher", Spy)
        strategy(Plain(), LPFTPlugin()).train(benchmark.train_stream[0], eval_streams=[])
    assert seen == [False] * 2


@pytest.mark.parametrize("freeze", ["head", "encoder"])
@pytest.mark.parametrize("adam", [False, True], ids=["sgd", "adamw"])
def test_a_part_is_frozen_for_the_first_steps(freeze: Any, adam: bool) -> None:
    moved: list[tuple[bool, bool]] = []

    class Look(SupervisedPlugin[Any]):
        def _now(self, strategy: Any) -> tuple[Tensor, Tensor]:
            model = strategy.model
            return model.classifier.weight.clone(), model.backbone[1].weight.clone()

        def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            self.before = self._now(strategy)

        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            pairs = zip(self.before, self._now(strategy), strict=True)
            head, encoder = (not torch.equal(a, b) for a, b in pairs)
            moved.append((head, encoder))

    own = LPFTPlugin(freeze_share=0.4, freeze=freeze)
    trained = strategy(Plain(), own, Look(), adam=adam, train_epochs=2)
    for experience in classic(1).train_stream:
        trained.train(experience, eval_streams=[])
    held = (False, True) if freeze == "head" else (True, False)
    assert moved == [held] * 4 + [(True, True)] * 6  # 40 % of ten steps


def test_nothing_is_drawn_from_the_random_streams_and_no_hook_stays() -> None:
    def drawn() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002

    states: list[Any] = []

    class Look(SupervisedPlugin[Any]):
        def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            states.append(drawn())

    model = Plain()
    trained = strategy(model, Look(), LPFTPlugin(), after := Look())
    trained.train(classic(1).train_stream[0], eval_streams=[])
    assert after is not None and states[0] == states[1] and hooks_of(model) == 0


def test_the_initial_teacher_is_probed_for_ever() -> None:
    own = LPFTPlugin(teacher="initial")
    model = Multi()
    given = {k: v.clone() for k, v in model.state_dict().items() if k.startswith("backbone")}
    learn(strategy(model, own), classic(3, True))
    assert own.reference is not None
    kept = own.reference.module.state_dict()
    assert all(torch.equal(kept[k], v) for k, v in given.items())
    assert set(own.fitted) == {2}


def test_one_class_is_said_once() -> None:
    trained = strategy(Plain(), LPFTPlugin(), train_mb_size=10)
    with pytest.warns(UserWarning, match="LP-FT leaves the head of task 0 as it is") as told:
        learn(trained, classic(6))
    assert len([w for w in told if "leaves the head" in str(w.message)]) == 1


def test_heads_without_bias_and_heads_by_name() -> None:
    class Odd(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 6, bias=False))

    experience = classic(1).train_stream[0]
    with pytest.raises(ValueError, match=r"candidates: classifier.0, classifier.2\): name it"):
        strategy(Odd(), LPFTPlugin(feature_module="backbone")).train(experience, eval_streams=[])
    for own in (LPFTPlugin(), LPFTPlugin(feature_module="backbone", head="classifier.2")):
        strategy(Odd(), own).train(experience, eval_streams=[])
        assert own.fitted[0] > 0.3
    with pytest.raises(ValueError, match=r"head='classifier.1' is not a torch.nn.Linear"):
        strategy(Odd(), LPFTPlugin(head="classifier.1")).train(experience, eval_streams=[])
    with pytest.raises(ValueError, match="head='classifer' is not a module of Odd; near names: cl"):
        strategy(Odd(), LPFTPlugin(head="classifer")).train(experience, eval_streams=[])


def test_after_a_plugin_with_a_teacher_or_anchors_it_is_refused() -> None:
    experience = classic(1).train_stream[0]
    for other in (WiSEFTPlugin(include_head=True), RKDPlugin()):
        trained = strategy(Plain(), other, LPFTPlugin())
        with pytest.raises(ValueError, match=r"has taken its .* put LPFTPlugin before it"):
            trained.train(experience, eval_streams=[])
    both = LPFTPlugin(), WiSEFTPlugin(include_head=True)
    strategy(Plain(), *both).train(experience, eval_streams=[])


def test_one_head_and_several_task_labels_are_one_label_space() -> None:
    from avalanche.training import Cumulative

    own = LPFTPlugin()
    benchmark = nc_with_tasks()
    trained = strategy(Plain(), own, kind=Cumulative)
    for experience in benchmark.train_stream:
        trained.train(experience, eval_streams=[])
    assert set(own.fitted) == {0} and own.fitted[0] > 0.3


def nc_with_tasks() -> Any:
    from avalanche.benchmarks import nc_benchmark

    return nc_benchmark(
        Blobs(),
        Blobs(60, seed=1),
        3,
        task_labels=True,
        fixed_class_order=list(range(6)),
    )


def test_a_state_between_experiences_does_not_skip_the_probe() -> None:
    benchmark, own = classic(2), LPFTPlugin()
    strategy(Plain(), own).train(benchmark.train_stream[0], eval_streams=[])
    fresh = LPFTPlugin()
    fresh.load_state_dict(own.state_dict())
    again = strategy(Plain(), fresh)  # its clock begins at 0, which the state allows
    again.train(benchmark.train_stream[1], eval_streams=[])
    assert set(fresh.fitted) == {0}


@pytest.mark.parametrize("resumed", [False, True])
def test_classes_that_come_back_are_refitted_or_kept(resumed: bool) -> None:
    """Learning by domain: the same classes again, with other images."""
    from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline
    from avalanche.benchmarks.utils import as_classification_dataset

    sets = [as_classification_dataset(Blobs(60, seed=s)) for s in (0, 1)]
    benchmark = with_classes_timeline(benchmark_from_datasets(train=sets, test=sets))
    for refit in (True, False):
        own, heads = LPFTPlugin(l2=1e-3, refit=refit), Heads()
        model = Plain()
        learner = strategy(model, own, heads)
        learner.train(benchmark.train_stream[0], eval_streams=[])
        trained = model.classifier.weight.detach().clone()
        if resumed:
            state, own = own.state_dict(), LPFTPlugin(l2=1e-3, refit=refit)
            own.load_state_dict(state)
            learner = strategy(model, own, heads)
        learner.train(benchmark.train_stream[1], eval_streams=[])
        assert torch.equal(heads.weights[1], trained) is not refit
        assert bool(own.fitted) is refit


def test_without_refit_new_classes_are_fitted_and_old_ones_stay() -> None:
    from avalanche.training import Cumulative

    own, heads = LPFTPlugin(l2=1e-3, refit=False), Heads()
    model = Plain()
    trained = strategy(model, own, heads, kind=Cumulative)
    benchmark = classic(3)
    trained.train(benchmark.train_stream[0], eval_streams=[])
    before = model.classifier.weight.detach().clone()
    trained.train(benchmark.train_stream[1], eval_streams=[])
    changed = (heads.weights[1] != before).any(dim=1).tolist()
    assert changed == [False, False, True, True, False, False]  # all four classes were there


class Heads(SupervisedPlugin[Any]):
    """The head's weight as each experience's training begins."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        if not strategy.clock.train_exp_epochs:
            self.weights.append(strategy.model.classifier.weight.detach().clone())


def test_a_second_try_fits_the_probe_that_the_first_did_not() -> None:
    class Fails(LPFTPlugin):
        broken = True

        def _features(self, *args: Any) -> Tensor:
            if self.broken:
                raise MemoryError
            return super()._features(*args)

    own = Fails()
    trained, experience = strategy(Plain(), own), classic(2).train_stream[0]
    with pytest.raises(MemoryError):
        trained.train(experience, eval_streams=[])
    own.broken = False
    trained.train(experience, eval_streams=[])
    assert set(own.fitted) == {0}


def test_freezing_goes_on_where_it_was() -> None:
    """Four epochs of five steps, half of them frozen, broken off after the second epoch."""
    states: list[Any] = []
    moved: list[bool] = []

    class Look(SupervisedPlugin[Any]):
        def __init__(self, own: LPFTPlugin) -> None:
            super().__init__()
            self.own = own

        def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            self.before = strategy.model.backbone[1].weight.detach().clone()

        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            moved.append(not torch.equal(self.before, strategy.model.backbone[1].weight))
            states.append(self.own.state_dict())

    own = LPFTPlugin(freeze_share=0.75, freeze="encoder")
    experience = classic(1).train_stream[0]
    strategy(Plain(), own, Look(own), train_epochs=4).train(experience, eval_streams=[])
    assert moved == [False] * 15 + [True] * 5
    fresh = LPFTPlugin(freeze_share=0.75, freeze="encoder")
    fresh.load_state_dict(states[9])
    fresh.load_state_dict(fresh.state_dict())
    moved.clear()
    rest = strategy(Plain(), fresh, Look(fresh), train_epochs=2)
    rest.train(experience, eval_streams=[])
    assert moved == [False] * 5 + [True] * 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"l2": 0.0}, "l2=0 must be positive"),
        ({"freeze_share": 1.5}, r"freeze_share=1.5 must lie in \[0, 1\]"),
        ({"freeze": "body"}, "freeze='body' is unknown"),
    ],
)
def test_bad_options(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LPFTPlugin(**options)
