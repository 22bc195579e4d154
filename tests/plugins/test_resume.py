"""Going on after a crash: between experiences, inside one, and through a pickle."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda import FDAPlugin, ProxyFDAPlugin
from tests.plugins.toys import Plain, classic, learn, same, strategy


def test_state_dict_lets_another_process_go_on() -> None:
    benchmark = classic(2)

    def half() -> tuple[Any, ProxyFDAPlugin]:
        torch.manual_seed(0)
        own = ProxyFDAPlugin(num_neighbors=4, teacher="initial")
        trained = strategy(Plain(), own)
        trained.train(benchmark.train_stream[0], eval_streams=[])
        return trained, own

    whole, own = half()
    saved = copy.deepcopy(own.state_dict())
    weights = {k: v.clone() for k, v in whole.model.state_dict().items()}
    random_state = torch.get_rng_state()
    whole.train(benchmark.train_stream[1], eval_streams=[], reset_optimizer_state=True)

    other = ProxyFDAPlugin(num_neighbors=4, teacher="initial")
    other.load_state_dict(saved)
    model = Plain(seed=5)
    model.load_state_dict(weights)
    resumed = strategy(model, other)
    resumed.clock.train_exp_counter = 1
    torch.set_rng_state(random_state)
    resumed.train(benchmark.train_stream[1], eval_streams=[], reset_optimizer_state=True)
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    assert own.loss is not None and other.loss is not None
    assert same(own.loss.state_dict(), other.loss.state_dict())


class Note(SupervisedPlugin[Any]):
    """Keeps every batch, and the plugins' states and the model's weights after each step."""

    def __init__(self, *own: FDAPlugin) -> None:
        super().__init__()
        self.own = own
        self.states: list[Any] = []
        self.weights: list[dict[str, Tensor]] = []
        self.batches: list[Tensor] = []

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        assert len({id(p.teacher) for p in self.own}) == 1
        self.batches.append(strategy.mb_x.clone())
        self.states.append(copy.deepcopy([p.state_dict() for p in self.own]))
        self.weights.append(copy.deepcopy(strategy.model.state_dict()))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("step", "epochs_left"), [(2, 2), (7, 1), (9, 1)])
def test_state_taken_inside_an_experience_brings_back_teacher_and_batches(
    workers: int, step: int, epochs_left: int
) -> None:
    """Two epochs of five batches, broken off after a step; the rest is the same as unbroken."""

    def pair() -> tuple[FDAPlugin, Any]:
        return FDAPlugin(num_neighbors=4), ProxyFDAPlugin(num_neighbors=4)

    experience, plugins = classic(1).train_stream[0], pair()
    note = Note(*plugins)
    whole = strategy(Plain(), *plugins, note, train_epochs=2)
    whole.train(experience, eval_streams=[], num_workers=workers)
    again, model = pair(), Plain(seed=7)
    for own, state in zip(again, note.states[step - 1], strict=True):
        own.load_state_dict(state)
        assert own.state_dict()["reference"] is not None  # saved again before it is used
        assert own.state_dict()["sampler"] == state["sampler"]
    model.load_state_dict(note.weights[step - 1])
    note_again = Note(*again)
    resumed = strategy(model, *again, note_again, train_epochs=epochs_left)
    resumed.train(experience, eval_streams=[], num_workers=workers)
    assert len(note.batches) == 10 and len(note_again.batches) == 10 - step
    for found, right in zip(note_again.batches, note.batches[step:], strict=True):
        assert torch.equal(found, right)
    kept = note_again.states[0][0]["reference"]["module"]
    assert same(kept, note.states[0][0]["reference"]["module"])
    assert not same(kept, note.weights[step - 1])


def test_a_state_from_inside_an_experience_needs_the_clock() -> None:
    own = FDAPlugin(num_neighbors=4)
    note = Note(own)
    trained = strategy(Plain(), own, note)
    learn(trained, classic(2))
    fresh = FDAPlugin(num_neighbors=4)
    fresh.load_state_dict(note.states[-1][0])
    with pytest.raises(ValueError, match=r"inside experience 1, .*train_exp_counter = 1"):
        strategy(Plain(), fresh).train(classic(2).train_stream[1], eval_streams=[])


def test_loading_an_untrained_state_forgets_what_was_learnt() -> None:
    own = FDAPlugin(num_neighbors=4)
    empty = own.state_dict()
    learn(strategy(Plain(), own), classic(2))
    assert own.loss is not None
    own.load_state_dict(empty)
    assert own.loss is None and own.optimizer is None


def test_a_strategy_with_the_plugins_can_be_pickled_between_experiences() -> None:
    dill = pytest.importorskip("dill")
    trained = strategy(Plain(), ProxyFDAPlugin(num_neighbors=4), FDAPlugin(num_neighbors=4))
    benchmark = classic(2)
    trained.train(benchmark.train_stream[0], eval_streams=[])
    earlier = dill.settings["byref"]
    dill.settings["byref"] = True  # without it dill cannot pickle any torch optimizer
    try:
        again = dill.loads(dill.dumps(trained))
    finally:
        dill.settings["byref"] = earlier
    for each in (trained, again):
        torch.manual_seed(0)
        each.train(benchmark.train_stream[1], eval_streams=[])
    assert same(again.model.state_dict(), trained.model.state_dict())
    assert same(again.plugins[0].loss.state_dict(), trained.plugins[0].loss.state_dict())
