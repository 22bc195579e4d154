"""Any set of plugins on one strategy: forwards, sums of terms, names in metrics."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda import (
    LDIFSPlugin,
    LPFTPlugin,
    LwFPlugin,
    MagMaxPlugin,
    RIFTPlugin,
    RKDPlugin,
)
from tests.methods import ON_REFERENCE, PLUGINS, TAPS, accepted, toy_plugin
from tests.plugins.test_life_cycle import Watcher
from tests.plugins.toys import Growing, Multi, Plain, classic, hooks_of, learn, strategy

TERMS = (
    "FDA_alignment",
    "ProxyFDA_alignment",
    "ProxyFDA_generator",
    "LDIFS_distance",
    "RIFT_covariance",
    "RKD_relations",
    "LwF_distillation",
    "L2SP_distance",
)

FIRST = ("lp-ft", "adam-spd", "averaging")
"""Methods that must come in this order: LP-FT changes the head before others take references,
AdamSPD the weights before they are averaged, and the average those that others merge."""


def all_of_them(**options: Any) -> list[Any]:
    """Return a plugin of every method on training batches, those of ``FIRST`` first."""
    others = (method for method in PLUGINS if method not in ON_REFERENCE)
    methods = sorted(others, key=lambda m: FIRST.index(m) if m in FIRST else len(FIRST))
    options = {"teacher_cache": "off", "known_classes": (0, 1), **options}
    return [toy_plugin(method, **accepted(method, **options)) for method in methods]


@pytest.mark.parametrize("model", [Plain, Growing, Multi], ids=["static", "growing", "multi"])
@pytest.mark.parametrize("backwards", [False, True])
def test_all_at_once_cost_one_forward_of_each_and_are_named(model: Any, backwards: bool) -> None:
    watcher, plugins = Watcher(), all_of_them()
    if backwards:
        plugins = plugins[: len(FIRST)] + plugins[: len(FIRST) - 1 : -1]
        plugins.sort(key=lambda plugin: isinstance(plugin, MagMaxPlugin))  # behind WiSE-FT
    trained = strategy(model(), watcher, *plugins, train_epochs=2, adam=True)
    stream = classic(2, model is Multi).train_stream
    trained.train(stream[0], eval_streams=[])
    steps = trained.clock.train_iterations
    assert steps > 4 and watcher.calls == [1] * steps
    made = [getattr(p, "teacher_forwards", 0) for p in plugins]
    assert sum(made) == steps and watcher.modes == {True}
    trained.train(stream[1], eval_streams=[])
    metrics = trained.evaluator.get_last_metrics()
    for term in TERMS:
        assert metrics[f"{term}_Epoch/train_phase/train_stream"] > 0, term
    assert hooks_of(trained.model) <= 2  # the watcher's own, one a call of train
    assert all(p.reference is None for p in plugins)


class LossAt(SupervisedPlugin[Any]):
    """Records the strategy's loss of each step, at this plugin's place in the list."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Tensor] = []

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.values.append(strategy.loss.detach().clone().double())


def added(plugins: list[Any]) -> list[Tensor]:
    """Return the terms that plugins add to each step's loss; the weights stay as they are."""
    before, after, model = LossAt(), LossAt(), Plain(dropout=0.0)
    trained = strategy(model, before, *plugins, after, train_mb_size=30)
    for group in trained.optimizer.param_groups:
        group["lr"] = 0.0
    torch.manual_seed(0)
    trained.train(classic(1).train_stream[0], eval_streams=[])
    return [b - a for a, b in zip(before.values, after.values, strict=True)]


def test_the_sum_of_the_terms_equals_the_terms_alone() -> None:
    plugins = all_of_them(hard_class_batches=False)[1:]  # LP-FT would change the head
    together = added(copy.deepcopy(plugins))
    alone = [added([copy.deepcopy(plugin)]) for plugin in plugins]
    assert len(together) == 4
    for step, total in enumerate(together):
        torch.testing.assert_close(
            total, torch.stack([terms[step] for terms in alone]).sum(0), rtol=1e-5, atol=1e-5
        )
    assert sum(bool(terms[0] != 0) for terms in alone) >= 6


def test_each_term_is_published_as_it_was_added() -> None:
    plugins = [LDIFSPlugin(3.0, taps=TAPS), RKDPlugin(weight=2.0)]
    terms = [added([plugin]) for plugin in plugins]
    trained = strategy(Plain(dropout=0.0), *copy.deepcopy(plugins), train_mb_size=30)
    for group in trained.optimizer.param_groups:
        group["lr"] = 0.0
    torch.manual_seed(0)
    trained.train(classic(1).train_stream[0], eval_streams=[])
    metrics = trained.evaluator.get_last_metrics()
    for name, weight, values in (
        ("LDIFS_distance", 3.0, terms[0]),
        ("RKD_relations", 2.0, terms[1]),
    ):
        mean = float(torch.stack(values).mean()) / weight
        found = metrics[f"{name}_Epoch/train_phase/train_stream"]
        assert found == pytest.approx(mean, rel=1e-4)


def test_two_of_a_kind_and_two_references() -> None:
    plugins = [
        LDIFSPlugin(1.0, taps=TAPS),
        LDIFSPlugin(1.0, taps=TAPS[:1], name="shallow"),
        RKDPlugin(teacher="initial"),
        RIFTPlugin(weight=0.01, teacher="initial"),
    ]
    trained = strategy(Plain(), *plugins)
    learn(trained, classic(3))
    steps = trained.clock.train_iterations
    assert [p.teacher_forwards for p in plugins] == [steps, 0, steps, 0]
    assert (
        trained.evaluator.get_last_metrics()["shallow_distance_Epoch/train_phase/train_stream"] > 0
    )


def test_two_plugins_of_one_name_are_refused() -> None:
    trained = strategy(Plain(), RKDPlugin(), RKDPlugin(teacher="initial"))
    with pytest.raises(ValueError, match=r"two plugins are called 'RKD'.*name='...'"):
        trained.train(classic(2).train_stream[0], eval_streams=[])


def test_a_missing_tap_of_another_plugin_is_called_by_its_own_argument() -> None:
    trained = strategy(Plain(), RIFTPlugin(), LDIFSPlugin(taps=("backbne",)))
    with pytest.raises(ValueError, match="taps='backbne' is not a module of Plain"):
        trained.train(classic(2).train_stream[0], eval_streams=[])


def test_a_plugin_without_weight_does_not_change_anothers_terms() -> None:
    def run(*before: Any) -> float:
        look, after = LossAt(), LossAt()
        plugins = [LPFTPlugin(), *before, look, LwFPlugin(known_classes=[0, 1, 2]), after]
        trained = strategy(Plain(dropout=0.0), *plugins, train_mb_size=30)
        torch.manual_seed(0)
        trained.train(classic(1).train_stream[0], eval_streams=[])
        return float(after.values[0] - look.values[0])

    assert run(RIFTPlugin(weight=0.0)) == pytest.approx(run(), rel=1e-5)
