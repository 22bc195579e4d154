"""The plugin in strategies of Avalanche: which loaders it replaces, and which it leaves."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from avalanche.training import Replay
from avalanche.training.plugins import SupervisedPlugin

from avalanche_proxyfda import FDAPlugin
from avalanche_proxyfda.data.keyed import KeyedSamples, ShuffledBatches
from avalanche_proxyfda.data.sampler import HardClassBatchSampler
from avalanche_proxyfda.data.steady import SteadyLoader
from avalanche_proxyfda.pixels import InputPipeline, plugin
from tests.plugins.toys import Multi, Plain, classic, modern, strategy, tasks


class Look(SupervisedPlugin[Any]):
    """Notes the loaders of all epochs, and the labels of all batches."""

    def __init__(self) -> None:
        super().__init__()
        self.loaders: list[Any] = []
        self.labels: list[list[int]] = []

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.loaders.append(strategy.dataloader)
        self.labels.append(strategy.mb_y.tolist())


@pytest.mark.parametrize(
    ("benchmark", "model"), [(classic, Plain), (modern, Plain), (tasks, Multi)]
)
def test_the_default_loader_becomes_a_steady_one_with_keyed_samples(
    benchmark: Any, model: Any
) -> None:
    seen: list[list[list[int]]] = []
    for torch_seed in (0, 1):
        torch.manual_seed(torch_seed)
        look = Look()
        trained = strategy(model(), InputPipeline(3), look, train_epochs=2)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            for experience in benchmark().train_stream:
                trained.train(experience, eval_streams=[])
        assert all(type(loader) is SteadyLoader for loader in look.loaders)
        assert all(isinstance(loader.dataset, KeyedSamples) for loader in look.loaders)
        seen.append(look.labels)
    assert seen[0] == seen[1]  # torch's global stream decides nothing
    half = len(look.loaders[0])
    assert seen[0][:half] != seen[0][half : 2 * half]  # another order each epoch


def test_methods_that_choose_batches_go_on_choosing() -> None:
    look = Look()
    trained = strategy(Plain(), InputPipeline(), FDAPlugin(num_neighbors=4), look)
    trained.train(modern().train_stream[0], eval_streams=[])
    assert isinstance(look.loaders[0], SteadyLoader)
    assert isinstance(look.loaders[0].batch_sampler, HardClassBatchSampler)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"shuffle": False}, "shuffle=False was given"), ({"drop_last": True}, "drop_last=True")],
)
def test_options_of_the_default_loader_keep_it(options: Any, reason: str) -> None:
    look = Look()
    trained = strategy(Plain(), InputPipeline(), look)
    with pytest.warns(UserWarning, match=f"leaves the training loader as it is: {reason}"):
        trained.train(modern().train_stream[0], eval_streams=[], **options)
    assert not isinstance(look.loaders[0], SteadyLoader)


def test_the_loader_of_another_plugin_stays() -> None:
    look = Look()
    trained = strategy(Plain(), InputPipeline(), look, kind=Replay, mem_size=20)
    first, second = modern().train_stream
    trained.train(first, eval_streams=[])
    with pytest.warns(UserWarning, match=r"ReplayDataLoader of another plugin replaced it"):
        trained.train(second, eval_streams=[])
    assert "Replay" in type(look.loaders[-1]).__name__


def test_orders_differ_between_experiences_and_seeds() -> None:
    orders = {tuple(batch) for seed in range(3) for batch in ShuffledBatches(8, 8, seed)}
    assert len(orders) == 3


def test_memory_is_pinned_only_where_that_speeds_up_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A device that shares the memory of the host, as Apple's does, has nothing to pin."""
    for answer in (False, True):
        monkeypatch.setattr(plugin, "pins_memory", lambda device, answer=answer: answer)
        trained = strategy(Plain(), own := InputPipeline())
        trained.experience = modern().train_stream[0]
        trained.adapted_dataset = trained.experience.dataset
        trained.make_train_dataloader()
        own.before_training_exp(trained)
        assert isinstance(trained.dataloader, SteadyLoader)
        assert trained.dataloader.pin_memory is answer
