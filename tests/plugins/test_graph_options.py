"""Options of methods on graphs: K, start of the sigmoid, preset, size of the generator."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin

from avalanche_proxyfda import FDALoss, FDAPlugin, ProxyFDAPlugin, SoftFDAPlugin
from avalanche_proxyfda.plugins.base.graph import GraphPlugin
from avalanche_proxyfda.plugins.base.preset import PAPER
from tests.plugins.toys import Plain, classic, learn, strategy

BOTH = pytest.mark.parametrize("kind", [FDAPlugin, ProxyFDAPlugin])


class Values(SupervisedPlugin[Any]):
    """Records K, scale and bias after each step."""

    def __init__(self, own: GraphPlugin[Any]) -> None:
        super().__init__()
        self.own = own
        self.neighbors: list[int] = []
        self.scales: list[float] = []
        self.biases: list[float] = []

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        if self.own.loss is not None:
            self._keep()

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        self._keep()

    def _keep(self) -> None:
        loss = self.own.loss
        assert loss is not None
        self.neighbors.append(loss.num_neighbors)
        self.scales.append(float(loss.log_scale.detach().exp()))
        self.biases.append(float(loss.bias.detach()))


def watched(own: Any, experiences: int = 2, **options: Any) -> Values:
    values = Values(own)
    learn(strategy(Plain(), own, values, **options), classic(experiences))
    return values


# ---- K ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "batch", "neighbors"),
    [
        ({"classes_per_batch": 6, "samples_per_class": 2}, 12, 4),
        ({"classes_per_batch": 6}, 24, 8),
        ({"classes_per_batch": 2, "samples_per_class": 6}, 12, 5),  # half of the other 11
        ({"hard_class_batches": False}, 24, 8),  # twice the paper's n
        ({"hard_class_batches": False, "samples_per_class": 3}, 24, 6),
        ({"hard_class_batches": False}, 3, 1),
        ({"num_neighbors": 7}, 24, 7),
        ({"neighbor_factor": 1, "samples_per_class": 4}, 24, 4),
        ({"neighbor_factor": 4, "samples_per_class": 2, "classes_per_batch": 6}, 24, 5),
        ({"neighbor_factor": 3, "hard_class_batches": False}, 60, 12),
    ],
)
@BOTH
def test_k_is_twice_the_samples_of_a_class(
    kind: Any, options: dict[str, Any], batch: int, neighbors: int
) -> None:
    values = watched(kind(**options), experiences=1, train_mb_size=batch)
    assert set(values.neighbors) == {neighbors}


@pytest.mark.parametrize(("count", "last"), [(53, 1), (63, 5), (70, 7)])
@BOTH
def test_a_small_last_batch_has_a_k_in_proportion(kind: Any, count: int, last: int) -> None:
    """Batches of 24, and a last one of 5, 15 or 22 samples; a K that was chosen stays."""
    for options, full, ends in (({}, 8, last), ({"num_neighbors": 4}, 4, 4)):
        own = kind(hard_class_batches=False, **options)
        seen: list[int] = []

        class Neighbors(SupervisedPlugin[Any]):
            def after_backward(self, strategy: Any, **kwargs: Any) -> None:
                seen.append(own.loss.num_neighbors)  # noqa: B023

        learn(strategy(Plain(), own, Neighbors(), train_epochs=1), classic(1, count=count))
        assert seen == [full] * (count // 24) + [ends]


@BOTH
def test_a_small_last_batch_pulls_no_harder_than_a_full_one(kind: Any) -> None:
    """With the K of a full batch, the 20 samples had a gradient 4 times as large as 64 samples."""
    torch.manual_seed(0)
    own, sizes = kind(hard_class_batches=False), []

    class Gradients(SupervisedPlugin[Any]):
        def before_backward(self, strategy: Any, **kwargs: Any) -> None:
            (slope,) = torch.autograd.grad(
                strategy.loss, strategy.model.backbone[5].weight, retain_graph=True
            )
            sizes.append(float(slope.norm()))

    run = strategy(Plain(dropout=0.0), own, Gradients(), train_mb_size=64, train_epochs=1)
    run._criterion = lambda output, target: 0 * output.sum()
    for group in run.optimizer.param_groups:
        group["lr"] = 0.0
    learn(run, classic(1, count=64 * 3 + 20))
    assert len(sizes) == 4 and 0 < sizes[3] < 2.5 * sum(sizes[:3]) / 3


def test_k_follows_the_batches_of_each_experience() -> None:
    own = FDAPlugin(classes_per_batch=4)
    values = Values(own)
    run = strategy(Plain(), own, values, train_mb_size=24)
    learn(run, classic(1))  # 4 classes of 6
    assert values.neighbors[-1] == 11  # twice 6, but half of the other 23
    learn(run, classic(2))  # 3 classes, 8 samples of each
    assert values.neighbors[-1] == 11
    run.train_mb_size = 12
    learn(run, classic(2))  # 3 classes, 4 samples of each
    assert values.neighbors[-1] == 5


# ---- the start ------------------------------------------------------------------------------


@BOTH
def test_the_fitted_start_is_that_of_the_first_batch_of_each_experience(kind: Any) -> None:
    firsts: list[torch.Tensor] = []

    class Recorded(kind):  # type: ignore[misc]
        def compare(self, student: torch.Tensor, teacher: torch.Tensor) -> Any:
            terms = super().compare(student, teacher)
            if len(firsts) < 2 and self._new:
                self._new = False
                fitted = FDALoss(4, negative_weight="clamped")
                assert fitted.fit(teacher)
                torch.testing.assert_close(self.loss.log_scale, fitted.log_scale)
                torch.testing.assert_close(self.loss.bias, fitted.bias)
                firsts.append(fitted.bias.detach())
            return terms

        def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            super().before_training_exp(strategy, **kwargs)
            self._new = True

    own = Recorded(num_neighbors=4, start="fitted", negative_weight="clamped", name="own")
    values = watched(own)
    assert len(firsts) == 2 and not torch.equal(*firsts)
    assert len(set(values.biases)) > 2  # both learn from there


def test_siglips_start_is_ten_and_minus_ten_and_learns_from_there() -> None:
    own = FDAPlugin(num_neighbors=4, start="siglip", learnable=False)
    values = watched(own)
    assert set(values.biases) == {-10.0} and min(values.scales) == max(
        values.scales
    ) == pytest.approx(10)
    moved = watched(FDAPlugin(num_neighbors=4, start="siglip"))
    assert moved.biases[0] == -10.0 and len(set(moved.biases)) > 5


def test_refit_solves_at_every_step_and_learns_nothing() -> None:
    own = FDAPlugin(num_neighbors=4, start="refit", negative_weight="clamped")
    values = watched(own, experiences=1)
    assert own.optimizer is None and own.learned() == []
    assert len(set(values.biases)) == 5 == len(values.biases) // 2 + 1  # five steps


def test_a_degenerate_graph_warns_once_and_keeps_the_start() -> None:
    model = Plain(dropout=0.0)
    with torch.no_grad():
        for parameter in model.backbone[-1].parameters():
            parameter.fill_(1.0)  # all features are parallel
    own = FDAPlugin(num_neighbors=4, start="fitted", learnable=False)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        values = watched_model(model, own)
    assert sum("centre the sigmoid" in str(w.message) for w in seen) == 1
    assert values.biases[0] == -10.0


def watched_model(model: Plain, own: Any) -> Values:
    values = Values(own)
    learn(strategy(model, own, values), classic(1))
    return values


# ---- the preset -----------------------------------------------------------------------------


@BOTH
def test_the_preset_is_the_letter_of_the_paper(kind: Any) -> None:
    own = kind(preset="paper")
    assert own._batches.mining == "online"
    assert (own._batches.classes_per_batch, own._batches.samples_per_class) == (16, 4)
    assert own.start == "siglip" and own.num_neighbors is None
    assert own.loss_options == {
        "num_neighbors": 8,  # 2 n
        "negative_weight": "similarity",  # not clamped
        "init_logit_scale": 10.0,
        "init_logit_bias": -10.0,
        "learnable": True,
        "chunk_size": "auto",
    }
    if kind is ProxyFDAPlugin:
        assert own.proxy_options["proxy_ratio"] == 0.4
        assert own.proxy_options["variance_weight"] == 5.0
        assert own.proxy_options["attention"] is True


@pytest.mark.parametrize(("batch", "classes"), [(63, 15), (64, None)])
def test_the_preset_says_that_a_batch_has_no_room_for_16_classes(
    batch: int, classes: int | None
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watched(FDAPlugin(preset="paper"), experiences=2, train_mb_size=batch)
    said = [str(each.message) for each in caught if "preset='paper'" in str(each.message)]
    expected = f"train_mb_size=63 has room for {classes} classes: give train_mb_size=64"
    assert len(said) == (0 if classes is None else 2), said  # one for each experience
    assert all(expected in sentence for sentence in said)


def test_defaults_differ_from_the_letter_only_where_the_docs_say_so() -> None:
    plain, letter = FDAPlugin(), FDAPlugin(preset="paper")
    assert plain.loss_options == letter.loss_options
    assert plain._batches is not None and letter._batches is not None
    assert (plain.start, plain._batches.mining) == ("fitted", "bank")
    assert plain._batches.samples_per_class is None


@BOTH
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("start", "fitted"),
        ("mining", "bank"),
        ("num_neighbors", 16),
        ("samples_per_class", 8),
        ("classes_per_batch", 8),
        ("negative_weight", "clamped"),
        ("hard_class_batches", False),
        ("init_logit_bias", -5.0),
    ],
)
def test_an_option_that_contradicts_the_preset_is_refused(kind: Any, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name}=.*contradicts preset='paper', which fixes"):
        kind(preset="paper", **{name: value})
    assert kind(preset="paper", **{name: PAPER[name]}).preset == "paper"


@pytest.mark.parametrize(
    ("name", "value"), [("proxy_ratio", 0.5), ("variance_weight", 1.0), ("attention", False)]
)
def test_proxy_options_that_contradict_the_preset_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name}=.*contradicts preset='paper'"):
        ProxyFDAPlugin(preset="paper", **{name: value})


@BOTH
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preset": "icml"}, "preset='icml' is unknown"),
        ({"start": "warm"}, "start='warm' is unknown"),
        ({"mining": "hard"}, "mining='hard' is unknown"),
        ({"candidates": 8}, "candidates=8 is below classes_per_batch=16"),
        ({"candidates": 60}, "candidates=60 has no effect with mining='bank'"),
        (
            {"hard_class_batches": False, "mining": "online"},
            "mining='online' and candidates=None have no effect with hard_class_batches=False",
        ),
        (
            {"hard_class_batches": False, "candidates": 60},
            "mining=None and candidates=60 have no effect with hard_class_batches=False",
        ),
        ({"num_neighbors": 0}, "num_neighbors=0 must be at least 1"),
        ({"neighbor_factor": 0}, "neighbor_factor=0 must be at least 1"),
        ({"num_neighbors": 8, "neighbor_factor": 1}, "both give K: leave one of them out"),
    ],
)
def test_bad_options(kind: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kind(**options)


# ---- the size of the generator ----------------------------------------------------------------


def with_proxies(kind: Any, **options: Any) -> Any:
    proxies = {"proxies": True} if kind is SoftFDAPlugin else {}
    return kind(num_neighbors=2, **proxies, **options)


WITH_PROXIES = pytest.mark.parametrize("kind", [ProxyFDAPlugin, SoftFDAPlugin])


@WITH_PROXIES
def test_the_generator_has_the_size_of_a_full_batch(kind: Any) -> None:
    """The first experience has eight images, and batches have 64."""
    own = with_proxies(kind, hard_class_batches=False)
    trained = strategy(Plain(), own, train_mb_size=64)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "max_proxies")
        for count in (8, 64):
            trained.train(classic(1, count=count).train_stream[0], eval_streams=[])
    assert own.loss.generator.max_proxies == 25  # 0.4 x 63
    fresh = with_proxies(kind, hard_class_batches=False)
    fresh.load_state_dict(own.state_dict())
    assert fresh.loss.generator.max_proxies == 25


@WITH_PROXIES
@pytest.mark.parametrize(
    ("options", "most"),
    [({"hard_class_batches": False}, 9), ({"classes_per_batch": 5, "mining": "random"}, 8)],
)
@pytest.mark.filterwarnings("ignore:class-balanced batches")
def test_a_full_first_batch_gives_the_generator_that_it_needs(
    kind: Any, options: Any, most: int
) -> None:
    """Batches of 24, and class-balanced ones of 5 x 4."""
    own = with_proxies(kind, **options)
    strategy(Plain(), own).train(classic(1).train_stream[0], eval_streams=[])
    assert own.loss.generator.max_proxies == most


@WITH_PROXIES
def test_the_warning_of_a_small_generator_names_an_argument_that_mends_it(kind: Any) -> None:
    stream = classic(1).train_stream
    trained = strategy(Plain(), with_proxies(kind, hard_class_batches=False, max_proxies=3))
    with pytest.warns(UserWarning, match="max_proxies=3 caps the 8 .*: pass max_proxies=8"):
        trained.train(stream[0], eval_streams=[])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "max_proxies")
        own = with_proxies(kind, hard_class_batches=False, max_proxies=8)
        strategy(Plain(), own).train(stream[0], eval_streams=[])
    assert own.loss.generator.max_proxies == 8


def test_the_mining_of_a_second_plugin_is_said_to_have_no_effect() -> None:
    sizes = {"classes_per_batch": 2, "samples_per_class": 4}
    first, second = FDAPlugin(mining="random", **sizes), SoftFDAPlugin(mining="online", **sizes)
    with pytest.warns(UserWarning, match="mining='online' has no effect: FDAPlugin stands before"):
        learn(strategy(Plain(), first, second), classic(1))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "mining=")
        pair = FDAPlugin(mining="random", **sizes), SoftFDAPlugin(mining="random", **sizes)
        learn(strategy(Plain(), *pair), classic(1))
