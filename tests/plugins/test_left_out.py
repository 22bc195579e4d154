"""Class-balanced batches say which part of the training data an epoch leaves out."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.training.plugins import SupervisedPlugin

from avalanche_proxyfda import FDAPlugin, ProxyFDAPlugin
from avalanche_proxyfda.data.sampler import HardClassBatchSampler
from tests.methods import ON_GRAPH, toy_plugin
from tests.plugins.toys import CLASSES, Blobs, Plain, classic, strategy


class Unequal(Blobs):
    """Images of classes of different sizes."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(sum(sizes))
        self.targets = [c for c, size in enumerate(sizes) for _ in range(size)]


class Images(SupervisedPlugin[Any]):
    """Records the images of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[list[bytes]] = []

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self.epochs.append([])

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.epochs[-1] += [image.numpy().tobytes() for image in strategy.mb_x]


@contextmanager
def said() -> Iterator[list[str]]:
    """The warnings of this kind, in the order in which they come."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield messages
    messages += [str(w.message) for w in caught if "class-balanced" in str(w.message)]


def images_of(plugin: Any, *sizes: int, experiences: int = 1, **options: Any) -> Images:
    seen, data = Images(), Unequal(*sizes)
    order = list(range(len(sizes)))
    stream = nc_benchmark(data, data, experiences, False, fixed_class_order=order)
    trained = strategy(Plain(), plugin, seen, **options)
    for experience in stream.train_stream:
        trained.train(experience, eval_streams=[])
    return seen


@pytest.mark.parametrize("method", ON_GRAPH)
def test_ninety_and_ten_images(method: str) -> None:
    with said() as messages:
        seen = images_of(toy_plugin(method), 90, 10, train_mb_size=32, train_epochs=2)
    assert [len(epoch) for epoch in seen.epochs] == [128, 128]
    assert [len(set(epoch)) for epoch in seen.epochs] == [74, 74]
    assert [max(Counter(epoch).values()) for epoch in seen.epochs] == [7, 7]
    (message,) = messages
    assert message.startswith(
        "class-balanced batches: 26 of 100 images of experience 0 are not drawn in an epoch, "
        "and images of the smallest class up to 7 times, since every batch takes equally many "
        "images of each class, and classes have 10 to 90"
    )
    assert "hard_class_batches=False" in message


@pytest.mark.parametrize("chosen", [True, False])
def test_who_chooses_the_batches_gets_no_warning(chosen: bool) -> None:
    with said() as messages:
        own = FDAPlugin(hard_class_batches=chosen)
        seen = images_of(own, 90, 10, train_mb_size=32)
    assert messages == []
    assert len(set(seen.epochs[0])) == (74 if chosen else 100)


def test_balanced_classes_come_whole_and_nothing_is_said() -> None:
    with said() as messages:
        seen = images_of(FDAPlugin(), *[17] * 4, train_mb_size=24, experiences=2)
    assert messages == []
    assert [len(set(epoch)) for epoch in seen.epochs] == [34, 34]


def test_the_first_experience_warns_and_each_one_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A stream of twenty experiences would else give twenty long warnings."""
    caplog.set_level(logging.INFO, "avalanche_proxyfda.plugins.base.graph")
    with said() as messages:
        images_of(FDAPlugin(), 40, 8, 30, 4, 12, 12, train_mb_size=24, experiences=3)
    (message,) = messages
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("avalanche_proxyfda.")]
    logged = [text.partition(" are ")[0].partition(": ")[2] for text in ours]
    assert logged == ["16 of 48 images of experience 0", "6 of 34 images of experience 1"]
    assert logged[0] in message and "(this warning comes once)" in message


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mining", ["bank", "prototypes", "random"])
def test_mined_batches_say_it_after_the_first_epoch(mining: Any, workers: int) -> None:
    own = FDAPlugin(num_neighbors=4, mining=mining, classes_per_batch=3, samples_per_class=4)
    seen = Images()
    trained = strategy(Plain(), own, seen, train_mb_size=12, train_epochs=2)
    with said() as messages:
        trained.train(classic(1).train_stream[0], eval_streams=[], num_workers=workers)
    absent = 120 - len(set(seen.epochs[0]))
    assert absent > 0
    most = max(Counter(seen.epochs[0]).values())
    assert most > 1
    (message,) = messages
    assert message.startswith(
        f"class-balanced batches: {absent} of 120 images of experience 0 were not drawn in the "
        f"first epoch, and others up to {most} times, since mining='{mining}' chooses 3 of 6 "
        "classes for each batch"
    )


def test_online_mining_counts_its_candidates() -> None:
    own = FDAPlugin(num_neighbors=4, mining="online", classes_per_batch=2, candidates=3)
    with said() as messages:
        images_of(own, 60, 4, 4, 4, 4, 4, train_mb_size=8)
    (message,) = messages
    assert "of 80 images of experience 0 were not among the candidates in the first" in message
    assert "mining='online' chooses 2 of 6 classes" in message


@pytest.mark.parametrize("seed", range(6))
def test_the_number_is_that_of_the_sampler(seed: int) -> None:
    sizes = torch.randint(1, 30, (CLASSES,), generator=torch.Generator().manual_seed(seed))
    labels = [c for c, size in enumerate(sizes.tolist()) for _ in range(size)]
    sampler = HardClassBatchSampler(labels, None, 8, 2, seed=seed)
    assert sampler.left_out is None
    drawn = {index for batch in sampler for index in batch}
    assert sampler.leaves_out == sampler.left_out == len(labels) - len(drawn)
    assert HardClassBatchSampler(labels, None, 3, 2).leaves_out is None


def test_an_epoch_that_was_broken_off_says_nothing() -> None:
    class Stops(SupervisedPlugin[Any]):
        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            strategy.stop_training()

    own = FDAPlugin(num_neighbors=4, mining="random", classes_per_batch=3)
    with said() as messages:
        trained = strategy(Plain(), own, Stops(), train_mb_size=12)
        trained.train(classic(1).train_stream[0], eval_streams=[])
    assert messages == [] and trained.clock.train_iterations == 1


@pytest.mark.parametrize("kind", [FDAPlugin, ProxyFDAPlugin])
def test_one_class_falls_back_to_plain_batches(kind: Any) -> None:
    own, seen = kind(), Images()
    trained = strategy(Plain(), own, seen, train_mb_size=10)
    words = "experience 0 has one class.*plain batches"
    with pytest.warns(UserWarning, match=words) as caught:
        trained.train(classic(6).train_stream, eval_streams=[])
    assert len([w for w in caught if "has one class" in str(w.message)]) == 1
    assert [len(set(epoch)) for epoch in seen.epochs] == [20] * 6
    name = f"{own.name}_alignment_Epoch/train_phase/train_stream"
    assert len(trained.evaluator.get_all_metrics()[name][1]) == 6


def test_balanced_batches_come_back_after_an_experience_with_one_class() -> None:
    own, sizes = FDAPlugin(), (12, 20, 4)
    data, seen = Unequal(*sizes), Images()
    stream = nc_benchmark(
        data, data, 2, False, fixed_class_order=[0, 1, 2], per_exp_classes={0: 1, 1: 2}
    )
    trained = strategy(Plain(), own, seen, train_mb_size=8)
    with said() as messages:
        for experience in stream.train_stream:
            trained.train(experience, eval_streams=[])
    assert [len(epoch) for epoch in seen.epochs] == [12, 24]
    assert [len(set(epoch)) for epoch in seen.epochs] == [12, 16]
    assert len(messages) == 1 and "8 of 24 images of experience 1" in messages[0]


def test_the_option_is_checked() -> None:
    with pytest.raises(ValueError, match="hard_class_batches='yes' is unknown"):
        FDAPlugin(hard_class_batches="yes")  # type: ignore[arg-type]
