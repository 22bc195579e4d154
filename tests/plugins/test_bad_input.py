"""Every mistake is answered early, with the argument's name and the remedy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.training.plugins import ReplayPlugin, SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda import (
    AdamSPDPlugin,
    AveragingPlugin,
    DiGraPPlugin,
    FDAPlugin,
    L2SPPlugin,
    MagMaxPlugin,
    ProxyFDAPlugin,
    WiSEFTPlugin,
)
from avalanche_proxyfda.plugins.base.terms import FiniteWatch
from tests.methods import ON_GRAPH, PLUGINS
from tests.plugins.toys import Blobs, Growing, Plain, classic, learn, strategy

BOTH = tuple(PLUGINS[method] for method in ON_GRAPH)


@pytest.mark.parametrize(
    ("plugin", "name"),
    [
        (L2SPPlugin, "weight"),
        (AdamSPDPlugin, "weight"),
        (DiGraPPlugin, "mu"),
        (WiSEFTPlugin, "alpha"),
        (MagMaxPlugin, "scale"),
        (AveragingPlugin, "decay"),
    ],
)
def test_a_method_on_weights_says_why_it_finds_no_weight_by_itself(plugin: Any, name: str) -> None:
    words = f"{name}='auto' must be a number: the method acts on weights, whose drift has no common"
    with pytest.raises(TypeError, match=f"^{words} scale .*; choose a number$"):
        plugin("auto")
    with pytest.raises(TypeError, match=f"^{name}='much' must be a number$"):
        plugin("much")


@pytest.mark.parametrize("plugin", BOTH)
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"num_neighbors": 0}, ValueError, "num_neighbors=0 must be at least 1"),
        ({"num_neighbors": True}, TypeError, "num_neighbors=True must be an int"),
        ({"weight": -1.0}, ValueError, "weight=-1.0 must be finite and not negative"),
        ({"weight": "1"}, TypeError, "weight='1' must be a number"),
        ({"learning_rate": float("inf")}, ValueError, "learning_rate=inf"),
        ({"teacher": "last"}, ValueError, "teacher='last' is unknown; choose one of .*'previous'"),
        ({"pooling": "max"}, ValueError, "pooling='max' is unknown"),
        ({"negative_weight": "cos"}, ValueError, "negative_weight='cos' is unknown"),
        ({"chunk_size": 0}, ValueError, "chunk_size=0 must be at least 1"),
        ({"classes_per_batch": 1}, ValueError, "classes_per_batch=1 must be at least 2"),
        ({"samples_per_class": 0}, ValueError, "samples_per_class=0"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"feature_module": 3}, TypeError, "feature_module=3"),
    ],
)
def test_options(plugin: Any, options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        plugin(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"proxy_ratio": -0.1}, "proxy_ratio=-0.1"),
        ({"variance_weight": -1.0}, "variance_weight=-1.0"),
        ({"max_proxies": 0}, "max_proxies=0"),
        ({"kernel_size": 4}, "kernel_size=4 must be odd"),
    ],
)
def test_proxy_options(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ProxyFDAPlugin(**options)


def refused(words: str, model: nn.Module, plugin: Any, benchmark: Any = None) -> None:
    """Training on the first experience ends in an error that matches ``words``."""
    trained = strategy(model, plugin)
    with pytest.raises((ValueError, TypeError), match=words):
        trained.train((benchmark or classic()).train_stream[0], eval_streams=[])


@pytest.mark.parametrize("hard", [True, False])
def test_k_not_below_the_batch(hard: bool) -> None:
    own = FDAPlugin(num_neighbors=24, hard_class_batches=hard)
    refused("num_neighbors=24 must be below the training batch, which holds 24", Plain(), own)


def test_feature_module_not_found() -> None:
    refused(
        "'backbne' is not a module of Plain; near names: backbone",
        Plain(),
        FDAPlugin(feature_module="backbne", num_neighbors=4),
    )


def test_feature_module_without_a_near_name() -> None:
    refused("the preset reads 'classifier:input'", Plain(), FDAPlugin(feature_module="xyz"))


def test_feature_module_not_run() -> None:
    model = Plain()
    model.spare = nn.Linear(2, 2)
    own = FDAPlugin(feature_module="spare", num_neighbors=4, hard_class_batches=False)
    refused("'spare' was not run by the model's forward", model, own)


def test_feature_module_that_gives_no_vector() -> None:
    class Odd(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.backbone.append(nn.Unflatten(1, (2, 2, 2)))
            self.backbone.append(nn.Unflatten(1, (1, 2)))
            self.backbone.append(nn.Flatten())

    own = FDAPlugin(feature_module="backbone.7", num_neighbors=4)
    refused(r"feature_module='backbone.7' gives a tensor of shape \(24, 1, 2, 2, 2\)", Odd(), own)


def test_feature_module_that_sees_only_a_part_of_the_batch() -> None:
    class Halves(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.classifier(self.backbone(half)) for half in x.chunk(2)])

    own = FDAPlugin(feature_module="backbone", num_neighbors=4)
    refused("gave 12 rows for a batch of 24", Halves(), own)


def test_nan_features_name_experience_and_iteration() -> None:
    class Breaks(SupervisedPlugin[Any]):
        def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            if strategy.clock.train_iterations == 4:  # the second step of experience 1
                with torch.no_grad():
                    strategy.model.backbone[5].bias.fill_(torch.nan)

    trained = strategy(Plain(), FDAPlugin(num_neighbors=4), Breaks())
    trained.train(classic().train_stream[0], eval_streams=[])
    assert trained.clock.train_iterations == 3
    with pytest.raises(ValueError, match="NaN or Inf in experience 1, iteration 1: "):
        trained.train(classic().train_stream[1], eval_streams=[])


def test_a_note_does_not_outlive_a_training_that_was_broken_off() -> None:
    watch = FiniteWatch(every=10)
    watch.check("experience 0", 3, torch.tensor([torch.nan]))
    watch.clear()
    watch.look()


def test_where_looking_is_dear_the_first_bad_step_is_still_named() -> None:
    watch, bad = FiniteWatch(every=10), torch.tensor([1.0, torch.inf])
    for step in range(9):
        watch.check("experience 2", step, torch.ones(2), bad if step in (4, 6) else torch.ones(2))
    with pytest.raises(ValueError, match="experience 2, iteration 4"):
        watch.check("experience 2", 9, torch.ones(2))
    watch.check("experience 2", 10, bad)
    with pytest.raises(ValueError, match="iteration 10"):
        watch.look()
    watch.look()


def test_an_empty_experience() -> None:
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.utils import as_classification_dataset

    empty = benchmark_from_datasets(train=[as_classification_dataset(Blobs()).subset([])])

    trained = strategy(Plain(), FDAPlugin(num_neighbors=4))
    # torch's own loader would refuse an empty set; a strategy's own loader may not
    trained.make_train_dataloader = lambda **kwargs: setattr(trained, "dataloader", [])
    with pytest.raises(ValueError, match="experience 0 is empty"):
        trained.train(empty.train_stream[0], eval_streams=[])


def test_one_plugin_for_two_strategies() -> None:
    own = FDAPlugin(num_neighbors=4)
    first = strategy(Plain(), own)
    first.train(classic().train_stream[0], eval_streams=[])
    refused("belongs to another strategy.*make one plugin for each", Plain(), own)


def test_data_parallel() -> None:
    refused(
        "nn.DataParallel", nn.Sequential(nn.DataParallel(Plain())), FDAPlugin(feature_module="0")
    )
    refused("nn.DataParallel splits a batch", nn.DataParallel(Plain()), FDAPlugin(num_neighbors=4))


def test_an_empty_loader() -> None:
    own = FDAPlugin(num_neighbors=4, hard_class_batches=False)
    trained = strategy(Plain(), own, train_mb_size=500)
    with pytest.raises(ValueError, match=r"loader is empty.*lower train_mb_size"):
        trained.train(classic().train_stream[0], eval_streams=[], drop_last=True)


def test_a_loader_of_another_plugin_is_kept_with_a_warning() -> None:
    class Own(SupervisedPlugin[Any]):
        def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            strategy.dataloader = torch.utils.data.DataLoader(strategy.adapted_dataset, 7)

    trained = strategy(Plain(), Own(), FDAPlugin(num_neighbors=4))
    with pytest.warns(UserWarning, match="gives way to the DataLoader of another plugin"):
        trained.train(classic().train_stream[0], eval_streams=[])
    assert trained.clock.train_iterations == 9


def test_two_plugins_that_ask_for_different_batches() -> None:
    plugins = FDAPlugin(num_neighbors=4), FDAPlugin(num_neighbors=4, samples_per_class=2, name="b")
    trained = strategy(Plain(), *plugins)
    with pytest.warns(UserWarning, match="the plugin before it, which differ in size or seed"):
        trained.train(classic().train_stream[0], eval_streams=[])


@pytest.mark.parametrize("first", [True, False], ids=["ours-first", "replay-first"])
@pytest.mark.filterwarnings("ignore:num_neighbors=4 is clamped")
def test_replay_overrides_hard_class_batches_with_one_warning(first: bool) -> None:
    plugins: list[Any] = [FDAPlugin(num_neighbors=4), ReplayPlugin(20)]
    trained = strategy(Growing(), *(plugins if first else plugins[::-1]))
    with pytest.warns(UserWarning, match="gives way to the ReplayDataLoader") as told:
        learn(trained, classic(3))
    assert len([w for w in told if "gives way" in str(w.message)]) == 1
    assert trained.clock.train_exp_counter == 3
