"""Hard class mining in a strategy: forwards, workers, resumes, and the rules compared."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda import EfficientNaive, FDAPlugin, ProxyFDAPlugin
from avalanche_proxyfda.data.bank import FeatureBank
from tests.plugins.toys import CLASSES, Blobs, Plain, classic, learn, strategy


class Smooth(nn.Module):
    """Without batch normalisation and dropout: training at rate 0 changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = [nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 8)]
            self.backbone = nn.Sequential(*layers)
            self.classifier = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.backbone(x))
        return logits


MININGS = ("bank", "online", "prototypes", "random")


class Batches(SupervisedPlugin[Any]):
    """Records the labels and the images of each batch that the student trains on."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[list[int]] = []
        self.images: list[Tensor] = []

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        self.labels.append(strategy.mb_y.tolist())
        self.images.append(strategy.mb_x.clone())

    def classes(self) -> list[list[int]]:
        """The classes of each batch in the order of the choice, if a class has 4 samples."""
        return [row[::4] for row in self.labels]


class Calls(SupervisedPlugin[Any]):
    """Counts forwards of the student."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.count = 0
        model.register_forward_hook(self._add)

    def _add(self, *_: Any) -> None:
        self.count += 1


def fda(**options: Any) -> FDAPlugin:
    return FDAPlugin(**{"classes_per_batch": 3, "samples_per_class": 4, **options})


def trained(
    mining: str, model: nn.Module | None = None, lr: float = 0.05, **options: Any
) -> tuple[Batches, FDAPlugin]:
    """Train on one experience of six classes in batches of three, and return the batches."""
    loading = {"num_workers": options.pop("num_workers", 0)}
    sizes, epochs = options.pop("sizes", {}), options.pop("epochs", 2)
    batch = options.pop("batch", 12)
    seen, own = Batches(), fda(mining=mining, **options)
    run = strategy(model or Smooth(), own, seen, train_epochs=epochs, train_mb_size=batch)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    learn(run, classic(1, **sizes), **loading)
    return seen, own


@pytest.mark.parametrize("mining", MININGS)
def test_batches_hold_three_classes_in_equal_parts(mining: str) -> None:
    seen, _ = trained(mining)
    assert len(seen.labels) == 2 * 10
    for labels in seen.labels:
        assert [labels.count(c) for c in sorted(set(labels))] == [4, 4, 4]


def test_every_rule_gives_the_same_batches_if_all_classes_fit() -> None:
    plain = [trained(m, classes_per_batch=6, batch=24, epochs=1)[0].labels for m in MININGS]
    assert all(labels == plain[0] for labels in plain)
    assert all(len(set(labels)) == CLASSES for labels in plain[0])


@pytest.mark.parametrize("mining", ["bank", "prototypes", "random"])
def test_no_rule_but_online_adds_a_forward_to_a_step(mining: str) -> None:
    """Both models run once a step; bank and prototypes add one pass of the teacher."""
    model = Plain()
    calls = Calls(model)
    _, own = trained(mining, model, teacher_cache="off")
    evaluation = 1  # one batch of 60 images
    assert calls.count == 20 + evaluation
    assert own.teacher_forwards == 20 + (0 if mining == "random" else 2)
    assert own.mining_forwards == 0


def test_online_mining_counts_its_forwards() -> None:
    model = Plain()
    calls = Calls(model)
    _, own = trained("online", model, teacher_cache="off")
    assert own.mining_forwards == 20 and calls.count == 40 + 1
    assert own.teacher_forwards == 40
    assert own.state_dict()["mining_forwards"] == 20
    again = fda(mining="online")
    again.load_state_dict(own.state_dict())
    assert again.mining_forwards == 20


def test_bank_and_online_agree_in_the_forced_case() -> None:
    """All classes are candidates, a class has exactly n samples, and the bank is fresh."""
    forced = {"count": 24}
    bank, online = (
        trained(m, lr=0.0, sizes=forced, epochs=1, **more)[0]
        for m, more in (("bank", {}), ("online", {"candidates": 6}))
    )
    assert len(bank.labels) == 2
    assert bank.classes() == online.classes()
    other = trained("random", lr=0.0, sizes=forced, epochs=1)[0]
    assert other.classes() != bank.classes()


def test_the_bank_follows_the_student() -> None:
    """Batches of the first epoch do not depend on training, those of the second do."""
    still, moving = (trained("bank", lr=lr, epochs=3)[0].labels for lr in (0.0, 0.3))
    assert still[:10] == moving[:10]
    assert still[10:] != moving[10:]


@pytest.mark.parametrize("mining", MININGS)
def test_batches_are_the_same_with_workers(mining: str) -> None:
    alone, helped = (trained(mining, num_workers=n, epochs=3)[0] for n in (0, 2))
    assert alone.labels == helped.labels
    assert all(map(torch.equal, alone.images, helped.images))


@pytest.mark.parametrize("mining", ["bank", "online"])
def test_mining_works_with_the_teachers_cache_and_proxies(mining: str) -> None:
    live, cached = (
        trained(mining, teacher_cache=cache, epochs=3)[0].labels for cache in ("off", "exact")
    )
    assert live == cached
    own = ProxyFDAPlugin(mining=mining, classes_per_batch=3, samples_per_class=4)
    learn(strategy(Plain(), own, train_mb_size=12), classic(1))


class Emptied(SupervisedPlugin[Any]):
    """Empties the student's bank before the epoch; reads it after the epoch."""

    def __init__(self, own: FDAPlugin) -> None:
        super().__init__()
        self.own, self.checked = own, False

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self._bank().student.zero_()

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        bank, sampler = self._bank(), self.own._batches.sampler  # type: ignore[union-attr]
        assert sampler is not None and sampler.plan is not None
        seen = sampler.plan.flatten().unique()
        # at rate 0 the student still is the teacher, so each row comes back in its place
        torch.testing.assert_close(bank.student[seen], bank.teacher[seen], rtol=0, atol=1e-3)
        unseen = torch.ones(len(bank.student), dtype=torch.bool).index_fill(0, seen, False)
        assert not bank.student[unseen].any() and len(seen) > 60
        self.checked = True

    def _bank(self) -> FeatureBank:
        assert self.own._batches is not None and self.own._batches.bank is not None
        return self.own._batches.bank


@pytest.mark.parametrize("graph", ["micro-batch", "accumulated"])
def test_the_bank_stores_each_row_in_its_place(graph: Any) -> None:
    own = fda(graph_from=graph, num_neighbors=4)
    emptied = Emptied(own)
    run = strategy(
        Smooth(), own, emptied, kind=EfficientNaive, accumulate=2, train_epochs=1, train_mb_size=12
    )
    for group in run.optimizer.param_groups:
        group["lr"] = 0.0
    learn(run, classic(1))
    assert emptied.checked


@pytest.mark.parametrize("mining", ["bank", "online"])
def test_a_second_plugin_trains_on_the_batches_of_the_first(mining: str) -> None:
    first, second, seen = fda(mining=mining), fda(mining=mining, name="second"), Batches()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "hard_class_batches")
        learn(strategy(Smooth(), first, second, seen, train_mb_size=12), classic(1))
    assert all(len(labels) == 12 for labels in seen.labels)
    assert second.mining_forwards == 0 and second.loss is not None
    assert second.loss.num_neighbors == 5  # of 12, not of the candidates


def test_online_mining_of_accumulated_graphs_is_refused() -> None:
    with pytest.raises(ValueError, match="graph_from='accumulated' relates several"):
        fda(mining="online", graph_from="accumulated")


@pytest.mark.parametrize("samples", [range(30), [*range(1, 120), 0]])
def test_a_data_set_that_changes_within_an_experience_is_refused(samples: Any) -> None:
    class Changes(SupervisedPlugin[Any]):
        def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
            strategy.adapted_dataset = strategy.adapted_dataset.subset(samples)

    run = strategy(Plain(), Changes(), fda(), train_epochs=2, train_mb_size=12)
    with pytest.raises(ValueError, match="the data set changed within the experience"):
        learn(run, classic(1))


class Noisy(Blobs):
    """Adds new noise to an image at each access."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = super().__getitem__(index)
        return image + 0.1 * torch.randn(image.shape), label


def test_a_small_class_repeats_samples_in_fresh_views() -> None:
    stream = nc_benchmark(Noisy(12), Blobs(12), 1, task_labels=False)
    seen = Batches()
    run = strategy(Plain(), fda(mining="random"), seen, train_mb_size=12)
    learn(run, stream)
    for labels, images in zip(seen.labels, seen.images, strict=True):
        assert sorted(labels.count(c) for c in set(labels)) == [4, 4, 4]  # of 2 samples a class
        assert len({tuple(image.flatten().tolist()) for image in images}) == 12
