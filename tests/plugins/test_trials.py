"""A comparison before any training is a trial: it changes nothing of the training after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from avalanche_proxyfda import ProxyFDAPlugin, RIFTPlugin, SoftFDAPlugin
from tests.plugins.toys import Plain, classic, learn, same, strategy

PLUGINS: dict[str, Callable[[], Any]] = {
    "generator": lambda: ProxyFDAPlugin(num_neighbors=4),
    "soft generator": lambda: SoftFDAPlugin(proxies=True, num_neighbors=4),
    "rotation": lambda: RIFTPlugin(q="learned", teacher="initial"),
    "memory": lambda: SoftFDAPlugin(memory=32, teacher="initial"),
}
LEARNED = ("generator", "soft generator", "rotation")


def features(width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(6, width, generator=torch.Generator().manual_seed(seed))


def trained(plugin: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    model = Plain()
    learn(strategy(model, plugin), classic(1))
    return model.state_dict()


@pytest.mark.parametrize("kind", PLUGINS)
def test_a_trial_changes_nothing_of_the_training(kind: str) -> None:
    expected = trained(PLUGINS[kind]())
    for width in (3, 8):  # the model's features have width 8
        plugin = PLUGINS[kind]()
        for seed in (1, 2):
            terms = plugin.compare(features(width), features(width, seed))
            assert all(value.isfinite() for _, value in terms.values())
        assert same(trained(plugin), expected)


@pytest.mark.parametrize("kind", LEARNED)
def test_a_loss_that_has_learned_is_kept_and_refuses_another_width(kind: str) -> None:
    plugin = PLUGINS[kind]()
    terms = plugin.compare(features(3).requires_grad_(), features(3, 1))
    sum(weight * value for weight, value in terms.values()).backward()
    plugin.optimizer.step()
    words = f"the loss of {plugin.name} has learned from features of width 3, and the batch has "
    with pytest.raises(ValueError, match=words + r"width 8: .*feature_module.* new plugin"):
        trained(plugin)
