"""Plugins on a compiled model: the same features, losses and weights as on the plain one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from avalanche_proxyfda.features.compiled import compiled_modules, is_compiled
from avalanche_proxyfda.models.heads import TaskHeads
from avalanche_proxyfda.models.task_labels import note_tasks
from tests.methods import toy_plugin
from tests.plugins.toys import Chain, Plain, classic, hooks_of, strategy


@pytest.fixture(autouse=True)
def _from_the_start() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Losses(SupervisedPlugin[Any]):
    """The strategy's loss of each step, and the gradients of the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Tensor] = []

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        named = dict(strategy.model.named_parameters())
        (first,) = [p for n, p in named.items() if n.endswith("backbone.1.weight")]
        self.values += [strategy.loss.detach().clone(), first.grad.clone()]


def fine_tune(
    model: nn.Module, *plugins: Any, experiences: int = 2
) -> tuple[list[Tensor], list[Tensor]]:
    """Losses and gradients of the steps of all experiences, and the weights after them."""
    torch.manual_seed(3)
    seen = Losses()
    trained = strategy(model, *plugins, seen)
    benchmark = classic(experiences)
    for experience in benchmark.train_stream:
        trained.train(experience, eval_streams=[])
        trained.eval(benchmark.test_stream)
    return seen.values, list(model.state_dict().values())


@pytest.mark.parametrize(
    "methods", [("fda",), ("ldifs", "lwf")], ids=lambda methods: " and ".join(methods)
)
def test_a_compiled_model_learns_the_same(methods: tuple[str, ...]) -> None:
    plain = fine_tune(Plain(dropout=0.0), *map(toy_plugin, methods))
    inner = Plain(dropout=0.0)
    # fullgraph refuses a divided graph; torch 2.6 divides it at every hook
    whole: Any = torch.compile(inner, backend="eager", fullgraph=torch.__version__ >= (2, 11))
    compiled = fine_tune(whole, *map(toy_plugin, methods))
    assert len(plain[0]) == len(compiled[0]) > 8
    torch.testing.assert_close(compiled, plain, rtol=1e-6, atol=1e-7)
    assert hooks_of(inner) == 0
    # without the plugins it learns something else
    assert not torch.allclose(fine_tune(Plain(dropout=0.0))[0][-1], plain[0][-1])


@pytest.mark.parametrize("name", ["fda", "ldifs", "lwf", "snd"])
def test_a_part_that_is_compiled_in_place_learns_the_same(name: str) -> None:
    """The hooks of the first experience are part of its code; those of later ones read as well."""
    plain = fine_tune(Plain(dropout=0.0), toy_plugin(name), experiences=3)
    model, plugin = Plain(dropout=0.0), toy_plugin(name)
    counted = CompileCounterWithBackend("eager")
    model.backbone = Chain(*model.backbone)
    model.backbone.compile(backend=counted)
    compiled = fine_tune(model, plugin, experiences=3)
    assert counted.frame_count > 0
    torch.testing.assert_close(compiled, plain, rtol=1e-6, atol=1e-7)


def test_a_compiled_tower_is_compiled_once_for_all_tasks() -> None:
    """Torch compiles eight variants of a function, and each task is a variant of a model."""
    counted = CompileCounterWithBackend("eager")
    model = TaskHeads(Chain(nn.Linear(4, 3)), 3, [2] * 12)
    model.tower.compile(backend=counted)
    for task in range(12):
        labels = torch.full((6,), task)
        note_tasks(labels, labels)
        model(torch.ones(6, 4), labels).sum().backward()
        assert counted.frame_count == 1


def test_a_compiled_model_that_ran_before_is_refused_with_the_remedy() -> None:
    model: Any = torch.compile(Plain(dropout=0.0), backend="eager")
    model(torch.ones(24, 1, 4, 4)).sum().backward()  # in training mode: code without hooks
    with pytest.raises(ValueError, match=r"was not run .* call torch\.compiler\.reset\(\)"):
        fine_tune(model, toy_plugin("fda"))


def test_a_wrapper_around_a_compiled_model_is_compiled() -> None:
    inner = Plain()
    assert is_compiled(nn.Sequential(torch.compile(inner)))  # type: ignore[arg-type]
    assert not is_compiled(nn.Sequential(inner))
    inner.classifier.compile(backend="eager")
    assert is_compiled(inner) and compiled_modules(inner) == [inner.classifier]
