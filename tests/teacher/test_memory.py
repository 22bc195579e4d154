"""A device without memory for the teacher's cache: what goes on, what is refused, what is saved."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from avalanche_proxyfda import FeatureSource, RKDPlugin
from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.teacher import reference
from avalanche_proxyfda.teacher.cache import planning, store
from avalanche_proxyfda.teacher.cache.store import FeatureStore
from tests.plugins.toys import Plain, classic, same, strategy


def full(like: Any, capacity: int) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Steps(SupervisedPlugin[Any]):
    """Holds the state of the plugin and the weights after each step."""

    def __init__(self, own: Any) -> None:
        super().__init__()
        self.own = own
        self.states: list[Any] = []
        self.weights: list[Any] = []

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.states.append(copy.deepcopy(self.own.state_dict()))
        self.weights.append(copy.deepcopy(strategy.model.state_dict()))


def trained(own: Any, epochs: int = 3, model: Any = None, experiences: int = 1) -> tuple[Any, Any]:
    """Train in epochs of five batches; return the strategy, and the states of all steps."""
    torch.manual_seed(0)
    steps = Steps(own)
    made = strategy(model or Plain(), own, steps, train_epochs=epochs)
    for experience in classic(experiences).train_stream:
        made.train(experience, eval_streams=[])
    return made, steps


def resumed(steps: Any, done: int, **options: Any) -> Any:
    """Train the rest after ``done`` of 15 steps; return the plugin."""
    again, model = RKDPlugin(**options), Plain(seed=7)
    again.load_state_dict(steps.states[done - 1])
    model.load_state_dict(steps.weights[done - 1])
    trained(again, 3 - done // 5, model)
    return again


def full_mps(like: Any, capacity: int) -> Any:
    """Raise the error of MPS, for which torch has no class."""
    raise RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB, max allowed: 9.07 GB)")


@pytest.mark.parametrize("lacks", [full, full_mps])
def test_auto_goes_on_without_a_cache(
    lacks: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    off, _ = trained(RKDPlugin(teacher_cache="off"), experiences=2)
    monkeypatch.setattr(store, "_in_memory", lacks)
    own = RKDPlugin()
    with caplog.at_level(logging.WARNING):
        made, _ = trained(own, experiences=2)
    assert same(made.model.state_dict(), off.model.state_dict())
    logged = [r for r in caplog.records if r.name.startswith("avalanche_proxyfda.")]
    assert own.cache_hits == 0 and len(logged) == 2  # each experience decides anew
    text = logged[0].getMessage()
    assert "no memory left" in text and "60 views x 32 B = 1.88 KiB on cpu" in text
    assert "pass cache_dtype='float16' or teacher_cache='off'" in text


def test_an_error_of_another_kind_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(like: Any, capacity: int) -> Any:
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(store, "_in_memory", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        trained(RKDPlugin())


@pytest.mark.parametrize("choice", ["exact", "clean"])
def test_a_cache_that_was_asked_for_is_an_error_with_the_option(
    monkeypatch: pytest.MonkeyPatch, choice: Any
) -> None:
    monkeypatch.setattr(store, "_in_memory", full)
    with pytest.raises(torch.OutOfMemoryError, match=rf"'{choice}' has no memory.*'off'") as error:
        trained(RKDPlugin(teacher_cache=choice))
    assert "Tried to allocate" in str(error.value.__cause__)


@pytest.mark.parametrize("choice", ["auto", "exact"])
def test_a_resumed_cache_needs_its_memory_too(monkeypatch: pytest.MonkeyPatch, choice: Any) -> None:
    _, steps = trained(RKDPlugin(teacher_cache=choice))
    monkeypatch.setattr(store, "_in_memory", full)
    if choice == "exact":
        with pytest.raises(torch.OutOfMemoryError, match="'exact' has no memory"):
            resumed(steps, 10, teacher_cache=choice)
    else:
        again = resumed(steps, 10)
        assert again.cache_hits == steps.states[9]["counts"]["cache_hits"] > 0
        assert again.teacher_forwards > steps.states[9]["counts"]["teacher_forwards"]


@pytest.mark.parametrize("how", ["little memory before", "none in the first step"])
def test_a_resumed_run_stays_without_the_cache_that_auto_declined(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    with monkeypatch.context() as patch:
        if how == "little memory before":
            patch.setattr(planning, "free_memory", lambda device: 100)
        else:
            patch.setattr(store, "_in_memory", full)
        _, steps = trained(RKDPlugin())
    assert resumed(steps, 5).cache_hits == 0
    assert resumed(steps, 5, teacher_cache="exact").cache_hits == 120
    old = copy.deepcopy(steps)
    for state in old.states:  # as saved before the decision was
        state["reference"]["cache"] = None
    assert resumed(old, 5).cache_hits == 120


def test_a_resumed_run_keeps_the_cache_that_auto_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = RKDPlugin()
    _, steps = trained(whole)
    monkeypatch.setattr(planning, "free_memory", lambda device: 100)
    assert resumed(steps, 10).cache_hits == whole.cache_hits == 240


def on_reference(choice: Any) -> RKDPlugin:
    images = torch.randn(16, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    data = ReferenceData(images, batch=8)
    return RKDPlugin(reference_data=data, teacher_cache=choice)


def declined(steps: Any) -> bool:
    """Return True if the last state says that "auto" has no cache of the reference images."""
    cache = steps.states[-1]["reference_data"]["answers"]["teacher"]["cache"]
    assert cache is not None
    return "declined" in cache


def test_reference_images_go_without_a_cache_too(monkeypatch: pytest.MonkeyPatch) -> None:
    off, _ = trained(on_reference("off"))
    with monkeypatch.context() as patch:
        patch.setattr(store, "_in_memory", full)
        own = on_reference("auto")
        made, steps = trained(own)
        assert same(made.model.state_dict(), off.model.state_dict()) and own.cache_hits == 0
        with pytest.raises(torch.OutOfMemoryError, match="'exact' has no memory"):
            trained(on_reference("exact"))
    again, model = on_reference("auto"), Plain(seed=7)
    again.load_state_dict(steps.states[9])
    model.load_state_dict(steps.weights[9])
    _, more = trained(again, 1, model)
    assert again.cache_hits == 0 and declined(more)


def test_a_resumed_run_keeps_the_decision_on_reference_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(reference, "free_memory", lambda device: 0)
        _, steps = trained(on_reference("auto"))
    again, model = on_reference("auto"), Plain(seed=7)
    again.load_state_dict(steps.states[9])
    model.load_state_dict(steps.weights[9])
    _, more = trained(again, 1, model)
    assert declined(more)
    again = on_reference("exact")
    again.load_state_dict(steps.states[9])
    _, more = trained(again, 1, Plain())
    assert not declined(more)


class Bytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make on the device ``meta``."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[Any, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for value in tree_leaves(found):
            if isinstance(value, Tensor) and value.device.type == "meta":
                storage = value.untyped_storage()
                self.made[storage._cdata] = storage.nbytes()
        return found


def test_loading_rows_takes_the_memory_of_the_rows_alone() -> None:
    places = [FeatureSource("a"), FeatureSource("b")]
    first = FeatureStore(100)
    first.add([bytes([k]) * 4 for k in range(100)], {p: torch.ones(100, 250) for p in places})
    second = FeatureStore(100)
    with Bytes() as counted:
        second.load_state_dict(first.state_dict(), places, torch.device("meta"))
    assert len(second) == 100 and {rows.device.type for rows in second.rows.values()} == {"meta"}
    assert sum(counted.made.values()) <= 1.05 * first.nbytes
