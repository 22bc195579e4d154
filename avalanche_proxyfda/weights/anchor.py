"""Anchors: the weights of a model as they stood when they were taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from avalanche_proxyfda.feature_source import HEADS, FeatureSource, is_image_tower, unwrap


def encoder_test(model: nn.Module, source: FeatureSource) -> Callable[[str], bool]:
    """Whether a tensor, by its name, helps to make the embedding; what comes after is the head.

    Where the embedding is what an open_clip image tower returns, the tower's tensors do;
    where it is what any other module returns, that module's, and those of all that the model
    registers before it, but for siblings that are called like heads. Where it is what a
    module is given, all do but that module's, and those of what follows it in a Sequential.

    Args:
        model: unwrapped.
        source: the embedding.
    """
    target, parts = source.find(model), [source.module]
    if source.of_input:
        parent, _, child = source.module.rpartition(".")
        around = model.get_submodule(parent)
        if isinstance(around, nn.Sequential):
            names = [name for name, _ in around.named_children()]
            parts = [f"{parent}.{n}".removeprefix(".") for n in names[names.index(child) :]]
        starts = tuple(part + "." for part in parts)
        return lambda name: not name.startswith(starts)
    starts = (source.module + "." if source.module else "",)
    if is_image_tower(target):
        return lambda name: name.startswith(starts)
    order = [name for name, _ in model.named_modules()]
    steps = source.module.split(".")
    path = {".".join(steps[:k]) for k in range(len(steps) + 1)}  # it, and what it is in
    heads = tuple(
        f"{name}."
        for name in order
        if name.rpartition(".")[2] in HEADS and name.rpartition(".")[0] in path and name not in path
    )
    before = {n for n in order[: order.index(source.module)] if not f"{n}.".startswith(heads)}
    return lambda name: name.startswith(starts) or name.rpartition(".")[0] in before


def encoder_names(model: nn.Module, source: FeatureSource) -> list[str]:
    """Names of the encoder's parameters, see :func:`encoder_test`.

    Raises:
        ValueError: when there is none.
    """
    inner = unwrap(model)
    source.find(inner)
    inside = encoder_test(inner, source)
    names = [name for name, _ in inner.named_parameters() if inside(name)]
    if not names:
        raise ValueError(
            f"no parameter of {type(inner).__name__} comes before feature_module={str(source)!r}: "
            "name the module whose output enters the head"
        )
    return names


class WeightAnchor:
    """Copies of parameters and buffers of a model, by name, on the model's device.

    Args:
        tensors: values by name, which are kept as they are.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = dict(tensors)

    @staticmethod
    def of(model: nn.Module, names: Iterable[str]) -> WeightAnchor:
        """The tensors ``names`` of ``model`` as they stand."""
        inner = unwrap(model)
        named = {**dict(inner.named_parameters()), **dict(inner.named_buffers())}
        return WeightAnchor({name: named[name].detach().clone() for name in names})

    @staticmethod
    def restore(model: nn.Module, state: Mapping[str, Tensor]) -> WeightAnchor:
        """The anchor that ``state`` holds, on the device of ``model``."""
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        return WeightAnchor({name: value.to(device) for name, value in state.items()})

    def matched(self, model: nn.Module, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that have an anchor.

        Raises:
            ValueError: when an anchor's shape is not that of the model's tensor; names all.
        """
        inner = unwrap(model)
        named = {**dict(inner.named_parameters()), **dict(inner.named_buffers())}
        known = [name for name in names if name in self.tensors]
        wrong = [
            f"{name}: {tuple(self.tensors[name].shape)}, the model's is {tuple(named[name].shape)}"
            for name in known
            if self.tensors[name].shape != named[name].shape
        ]
        if wrong:
            raise ValueError(
                f"anchors whose shapes do not fit the model: {'; '.join(wrong)}. Anchors must be "
                "of the same architecture; a layer that grows belongs to the head "
                "(feature_module says where it begins)"
            )
        return known
