"""Finds the head of a model and its last linear layer."""

from __future__ import annotations

import torch
from avalanche.models.dynamic_modules import (
    IncrementalClassifier,
    MultiHeadClassifier,
    MultiTaskModule,
)
from torch import Tensor, nn

from avalanche_proxyfda.features.source import FeatureSource
from avalanche_proxyfda.models.heads import TextHeads, UnitHeads
from avalanche_proxyfda.weights.anchor import encoder_test


def task_head(model: nn.Module, named: FeatureSource | None = None) -> FeatureSource | None:
    """Return the input of the heads, if the model has a head for each task; else None.

    Args:
        model: unwrapped.
        named: the embedding that the user named; used if it is the input of a multi-task
            module.

    Raises:
        ValueError: for a multi-task model of an unknown kind.
    """
    if named is not None and named.of_input and isinstance(named.find(model), MultiTaskModule):
        return named
    kinds = (MultiHeadClassifier, UnitHeads, TextHeads)
    for name, module in model.named_modules():
        if name and isinstance(module, kinds):
            return FeatureSource(name, of_input=True)
    if any(isinstance(module, MultiTaskModule) for module in model.modules()):
        raise ValueError(
            f"{type(model).__name__} is a multi-task model, but has no known module with a head "
            "for each task: name the one that gets the embedding, feature_module='NAME:input'"
        )
    return None


def last_linear(
    model: nn.Module, task: int, embedding: FeatureSource, named: str | None = None
) -> str:
    """Return the name of the linear layer that makes the logits of ``task``.

    Args:
        model: unwrapped.
        task: task label; not used for a model with one head.
        embedding: the place before the head.
        named: the layer that the user named; None searches for it.

    Raises:
        ValueError: if no single layer matches, or ``named`` is not a linear layer.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if named is not None:
        if not isinstance(FeatureSource(named).find(model, "head"), nn.Linear):
            raise ValueError(f"head={named!r} is not a torch.nn.Linear: name one")
        return named
    heads = task_head(model, embedding)
    if heads is not None:
        inner = modules[heads.module]
        ending = "heads.{}" if isinstance(inner, UnitHeads) else "classifiers.{}.classifier"
        name = f"{heads.module}.{ending.format(task)}"
        if isinstance(modules.get(name), nn.Linear):
            return name
    for name, module in modules.items():
        if isinstance(module, IncrementalClassifier) and heads is None:
            return f"{name}.classifier".removeprefix(".")
    before = encoder_test(model, embedding)
    after = [
        name
        for name, module in modules.items()
        if isinstance(module, nn.Linear) and not before(f"{name}.weight")
    ]
    if heads is None and len(after) == 1:
        return after[0]
    if not after:
        raise ValueError(
            f"{type(model).__name__} has no torch.nn.Linear behind its embedding, and the method "
            "needs such a head: leave the method out for this model, or name a layer, head='NAME'"
        )
    raise ValueError(
        f"no single linear layer makes the logits of {type(model).__name__} "
        f"(candidates: {', '.join(after)}): name it, head='NAME'"
    )


def by_task(pairs: set[tuple[int, int]], device: torch.device) -> dict[int, Tensor]:
    """Return the sorted classes of each task from (task, class) pairs, int64 on ``device``."""
    tasks = sorted({task for task, _ in pairs})
    return {t: torch.tensor(sorted(c for s, c in pairs if s == t), device=device) for t in tasks}
