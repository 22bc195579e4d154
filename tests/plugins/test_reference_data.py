"""Reference data beside the training batches: forwards, streams, terms, refusals, resume."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda import EfficientNaive
from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.plugins.base.beside import Beside
from avalanche_proxyfda.plugins.base.lifecycle import Terms
from avalanche_proxyfda.plugins.base.reference_only import ReferenceOnlyPlugin
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.methods import ON_REFERENCE, WITH_CACHE, toy_plugin
from tests.plugins.toys import Multi, Plain, classic, learn, same, strategy, tasks


def images(count: int = 20) -> Tensor:
    return torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(5))


def data(count: int = 20, **options: Any) -> ReferenceData:
    return ReferenceData(images(count), **{"batch": 8, **options})


class Moved(ReferenceOnlyPlugin):
    """Mean squared distance of reference embeddings; notes what it gets."""

    also_initial = True

    def __init__(self, weight: float = 1.0, **options: Any) -> None:
        super().__init__(weight, **options)
        self.seen: list[tuple[Tensor, Tensor, Beside]] = []

    def compare_reference(self, student: Tensor, teacher: Tensor, beside: Beside) -> Terms:
        self.seen.append((student.detach().clone(), teacher, beside))
        return {"moved": (self.weight, (student - teacher).square().mean())}


class Forwards(SupervisedPlugin[Any]):
    """Counts the runs of the student's backbone and head in training."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone = self.head = self.steps = 0
        model.backbone[1].register_forward_hook(lambda *_: self._count("backbone", model))
        model.classifier.register_forward_hook(lambda *_: self._count("head", model))

    def _count(self, name: str, model: Any) -> None:
        if model.training:
            setattr(self, name, getattr(self, name) + 1)

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.steps += 1


def test_two_student_forwards_and_one_teacher_forward_a_step_for_all_plugins() -> None:
    model, shared = Plain(), data()
    own = [
        toy_plugin(name, reference_data=shared, teacher_cache="off")
        for name in ("fda", "rkd", "ldifs")
    ]
    counter = Forwards(model)
    learn(strategy(model, *own, counter), classic(2))
    assert counter.backbone == 2 * counter.steps
    assert counter.head == counter.steps  # heads are not run on reference images
    assert sum(p.reference_forwards for p in own) == counter.steps
    assert sum(p.teacher_forwards for p in own) == 2 * counter.steps


def test_each_object_of_reference_data_has_its_own_forward() -> None:
    own = [toy_plugin(name, reference_data=data()) for name in ("rkd", "ldifs")]
    learn(strategy(Plain(), *own), classic(1))
    assert own[0].reference_forwards == own[1].reference_forwards == 5


def test_a_method_on_reference_data_alone_asks_no_teacher_about_training_images() -> None:
    own = Moved(reference_data=data(16), teacher_cache="exact")
    trained = strategy(Plain(), own, train_epochs=2)
    learn(trained, classic(1))
    assert own.teacher_forwards == 2 + 2  # two batches of all 16 images, and two halves of one
    assert len(own.seen) == 10
    assert own.cache_lookups == 80
    assert own.cache_hits == 64
    for student, teacher, _ in own.seen[:1]:
        assert student.shape == teacher.shape == (8, 8)


def test_cached_values_are_those_of_the_teacher() -> None:
    runs = {}
    for choice in ("exact", "off"):
        torch.manual_seed(0)
        own = Moved(reference_data=data(16), teacher_cache=choice)
        learn(strategy(Plain(), own, train_epochs=2), classic(2))
        runs[choice] = own.seen
    for (_, cached, _), (_, live, _) in zip(runs["exact"], runs["off"], strict=True):
        assert torch.allclose(cached, live, atol=1e-6)


def test_a_small_cache_holds_some_of_the_images() -> None:
    limit = 8 * 8 * 4  # eight rows of eight floats
    own = Moved(
        reference_data=data(16), teacher="initial", teacher_cache="exact", cache_bytes=limit
    )
    learn(strategy(Plain(), own, train_epochs=2), classic(1))
    cache = own._answers["teacher"].cache
    assert cache is not None
    assert cache.store.nbytes == limit
    assert 0 < own.cache_hits < own.cache_lookups == 80


def test_a_pickled_plugin_keeps_the_cache_of_reference_images(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = Moved(reference_data=data(16), teacher="initial", teacher_cache="exact")
    learn(strategy(Plain(), own), classic(1))  # two batches hold all images
    again = pickle.loads(pickle.dumps(own))
    forwards, lookups, hits = again.teacher_forwards, again.cache_lookups, again.cache_hits
    learn(strategy(Plain(seed=1), again), classic(1))
    assert again.teacher_forwards == forwards
    assert again.cache_lookups - lookups == again.cache_hits - hits == 40
    for _, teacher, beside in again.seen[-5:]:
        torch.testing.assert_close(teacher, _of_numbers(own, beside.numbers))
    assert "changed" not in caplog.text


def _of_numbers(own: Moved, numbers: list[int]) -> Tensor:
    """The teacher's values of reference images, as they were computed first."""
    values = {n: row for _, rows, b in own.seen for n, row in zip(b.numbers, rows, strict=True)}
    return torch.stack([values[number] for number in numbers])


def test_the_training_batch_is_the_same_with_and_without_reference_data() -> None:
    ends = []
    for given in ({}, {"reference_data": data(), "reference_weight": 0.0}):
        torch.manual_seed(0)
        ends.append(learn(strategy(Plain(), toy_plugin("rkd", **given)), classic(2)))
    assert same(*ends)  # dropout and the running statistics of batch norm included


def test_the_student_reads_reference_images_in_training_mode_with_gradient() -> None:
    torch.manual_seed(0)
    ends = []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        own = Moved(reference_data=data(), reference_weight=weight)
        ends.append(learn(strategy(Plain(), own), classic(1)))
    assert not same(*ends)


@pytest.mark.parametrize("name", [name for name in WITH_CACHE if name not in ON_REFERENCE])
def test_every_feature_plugin_takes_reference_data(name: str) -> None:
    own = toy_plugin(name, reference_data=data(24, batch=12))
    trained = strategy(Plain(), own)
    learn(trained, classic(2))
    means = trained.evaluator.get_last_metrics()
    assert [key for key in means if key.startswith(f"{own.name}_reference_")]


def test_heads_for_each_task_need_no_label() -> None:
    own = Moved(reference_data=data())
    learn(strategy(Multi(), own), tasks())
    assert own.reference_forwards == len(own.seen) > 0


def test_the_initial_model_is_kept_beside_the_previous_one() -> None:
    own = Moved(reference_data=data(), teacher_cache="off")
    learn(strategy(Plain(), own), classic(2))
    first, last = own.seen[0], own.seen[-1]
    assert torch.equal(first[1], first[2].initial)
    assert not torch.equal(last[1], last[2].initial)
    assert own.teacher_forwards == 3 + 2 * 3  # in the first experience both are one teacher


@pytest.mark.parametrize("teacher", ["previous", "averaged"])
def test_the_initial_model_never_changes(teacher: Any) -> None:
    """An averaged teacher begins at the model as given, and moves in the first experience."""
    model, own = Plain(), Moved(reference_data=data(), teacher=teacher)
    given = copy.deepcopy(model.backbone).eval()
    learn(strategy(model, own), classic(2))
    with torch.no_grad():
        known = given(images())
    for *_, beside in own.seen:
        torch.testing.assert_close(beside.initial, known[beside.numbers])
    assert not torch.allclose(own.seen[-1][1], own.seen[-1][2].initial)


def test_the_initial_model_is_that_of_a_plugin_before() -> None:
    shared = data()
    initial = toy_plugin("rkd", teacher="initial", reference_data=shared)
    own = Moved(reference_data=shared)
    learn(strategy(Plain(), initial, own), classic(2))
    assert own.initial_reference is initial.reference


def test_accumulation_gives_each_micro_batch_a_reference_batch() -> None:
    own = Moved(reference_data=data())
    trained = strategy(Plain(), own, kind=EfficientNaive, accumulate=2, train_mb_size=12)
    learn(trained, classic(1))
    assert own.reference_forwards == 10
    assert len({tuple(beside.numbers) for *_, beside in own.seen}) > 5


def test_a_training_that_was_broken_off_ends_the_same(tmp_path: Path) -> None:
    """Two experiences of six steps, and three batches of reference images a pass."""

    def make() -> list[Any]:
        shared = data()
        initial = toy_plugin("ldifs", teacher="initial", reference_data=shared)
        return [toy_plugin("rkd", reference_data=shared), initial, Moved(reference_data=shared)]

    own = make()
    whole = train(build(Plain, *own, BreakOff()), classic(2), tmp_path / "whole", every=None)
    for step in (3, 10):
        with pytest.raises(BrokenOffError):
            train(build(Plain, *make(), BreakOff(step)), classic(2), tmp_path / str(step), every=2)
        rest = make()
        again = train(build(Plain, *rest, BreakOff()), classic(2), tmp_path / str(step), every=2)
        assert alike(whole, again), step
        for left, right in zip(own, rest, strict=True):
            assert left.reference_forwards == right.reference_forwards
        assert own[2].teacher_forwards == rest[2].teacher_forwards  # it plans no other cache


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Moved(), "compares on reference data alone: pass reference_data"),
        (lambda: Moved(reference_data=images()), r"reference_data is a Tensor: pass Reference"),
        (lambda: toy_plugin("rkd", reference_weight=1.0), "no effect without reference_data"),
        (
            lambda: toy_plugin("rkd", reference_data=data(), graph_from="accumulated"),
            "take graph_from='micro-batch'",
        ),
        (
            lambda: toy_plugin("rkd", reference_data=data(batch=1)),
            "RKDPlugin compares 2 or more images with each other, and reference_data has batch=1",
        ),
    ],
)
def test_bad_options_are_refused(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_images_of_another_size_are_refused_with_both_shapes() -> None:
    own = Moved(reference_data=ReferenceData(torch.randn(9, 1, 5, 5), batch=8))
    with pytest.raises(ValueError, match=r"\[1, 5, 5\].*training images \[1, 4, 4\]"):
        learn(strategy(Plain(), own), classic(1))


def test_a_state_of_other_reference_data_is_refused() -> None:
    own = Moved(reference_data=data())
    learn(strategy(Plain(), own), classic(1))
    fresh = Moved(reference_data=data(21))
    fresh.load_state_dict(own.state_dict())
    with pytest.raises(ValueError, match=r"'images': 20.*'images': 21"):
        learn(strategy(Plain(), fresh), classic(1))
    other = Moved(reference_data=ReferenceData(2 * images(), batch=8))  # another normalisation
    other.load_state_dict(own.state_dict())
    with pytest.raises(ValueError, match=r"'digest': '.*give it the same reference_data"):
        learn(strategy(Plain(), other), classic(1))
