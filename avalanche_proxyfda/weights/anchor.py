"""Anchors: copies of a model's weights at one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from avalanche_proxyfda.features.presets import HEADS, is_image_tower
from avalanche_proxyfda.features.source import FeatureSource, unwrap
from avalanche_proxyfda.models.text_tower import TextTower


def encoder_test(model: nn.Module, source: FeatureSource) -> Callable[[str], bool]:
    """Return a test for the names of the encoder's tensors; all other tensors are the head's.

    The encoder of an embedding depends on the embedding's place:

    - the output of an open_clip image tower: the tower's tensors;
    - the output of another module: the tensors of the module and of all modules that the model
      registers before it, except siblings with the name of a head;
    - the input of a module: all tensors except those of the module and, inside a
      ``nn.Sequential``, of the modules after it.

    A trained text tower in the model (:class:`~avalanche_proxyfda.models.TextTower`) always
    belongs to the encoder.

    Args:
        model: unwrapped model.
        source: place of the embedding.

    Raises:
        ValueError: when ``model`` lacks the module of ``source``.

    Example:
        >>> from torch import nn
        >>> from avalanche_proxyfda import FeatureSource
        >>> from avalanche_proxyfda.weights.anchor import encoder_test
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
        >>> in_encoder = encoder_test(model, FeatureSource("1", of_input=True))
        >>> in_encoder("0.weight"), in_encoder("1.weight")
        (True, False)
    """
    towers = [f"{n}." for n, part in model.named_modules() if n and isinstance(part, TextTower)]
    texts, of_images = tuple(towers), _image_test(model, source)
    return lambda name: name.startswith(texts) or of_images(name)


def _image_test(model: nn.Module, source: FeatureSource) -> Callable[[str], bool]:
    """Return the test of :func:`encoder_test` without the text tower."""
    target, parts = source.find(model), [source.module]
    if source.of_input:
        parent, _, child = source.module.rpartition(".")
        container = model.get_submodule(parent)
        if isinstance(container, nn.Sequential):
            names = [name for name, _ in container.named_children()]
            parts = [f"{parent}.{n}".removeprefix(".") for n in names[names.index(child) :]]
        starts = tuple(part + "." for part in parts)
        return lambda name: not name.startswith(starts)
    starts = (source.module + "." if source.module else "",)
    if is_image_tower(target):
        return lambda name: name.startswith(starts)
    order = [name for name, _ in model.named_modules()]
    steps = source.module.split(".")
    path = {".".join(steps[:k]) for k in range(len(steps) + 1)}  # the module and its parents
    heads = tuple(
        f"{name}."
        for name in order
        if name.rpartition(".")[2] in HEADS and name.rpartition(".")[0] in path and name not in path
    )
    before = {n for n in order[: order.index(source.module)] if not f"{n}.".startswith(heads)}
    return lambda name: name.startswith(starts) or name.rpartition(".")[0] in before


def encoder_names(model: nn.Module, source: FeatureSource) -> list[str]:
    """Return the names of the encoder's parameters, see :func:`encoder_test`.

    Raises:
        ValueError: when ``model`` lacks the module of ``source``, or no parameter is in the
            encoder.

    Example:
        >>> from torch import nn
        >>> from avalanche_proxyfda import FeatureSource
        >>> from avalanche_proxyfda.weights import encoder_names
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> encoder_names(model, FeatureSource("2", of_input=True))  # the head is module 2
        ['0.weight', '0.bias']
    """
    inner = unwrap(model)
    source.find(inner)
    inside = encoder_test(inner, source)
    names = [name for name, _ in inner.named_parameters() if inside(name)]
    if not names:
        raise ValueError(
            f"no parameter of {type(inner).__name__} comes before feature_module={str(source)!r}: "
            "pass the name of the module whose output enters the head"
        )
    return names


class WeightAnchor:
    """Copies of a model's parameters and buffers, by name, on the model's device.

    Args:
        tensors: values by name; the anchor does not copy them again.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.weights import WeightAnchor
        >>> model = torch.nn.Linear(3, 2)
        >>> anchor = WeightAnchor.of(model, ["weight"])
        >>> with torch.no_grad():
        ...     _ = model.weight.add_(1)
        >>> anchor.matched(model, ["weight", "bias"])
        ['weight']
        >>> round(float((model.weight - anchor.tensors["weight"]).detach().mean()), 3)
        1.0
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = dict(tensors)

    @staticmethod
    def of(model: nn.Module, names: Iterable[str]) -> WeightAnchor:
        """Copy the tensors ``names`` of ``model``.

        Raises:
            KeyError: when ``model`` lacks one of them; the message lists all that it lacks.
        """
        names, (kind, named) = list(names), _tensors_of(model)
        lacking = [name for name in names if name not in named]
        if lacking:
            raise KeyError(
                f"names holds {', '.join(lacking)}, which {kind} lacks: give names of its "
                "parameters and buffers"
            )
        return WeightAnchor({name: named[name].detach().clone() for name in names})

    @staticmethod
    def restore(model: nn.Module, state: Mapping[str, Tensor]) -> WeightAnchor:
        """Build an anchor from ``state``, on the device of ``model``."""
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        return WeightAnchor({name: value.to(device) for name, value in state.items()})

    def matched(self, model: nn.Module, names: Iterable[str]) -> list[str]:
        """Return those of ``names`` that have an anchor.

        Args:
            model: the model to compare with the anchor.
            names: names of the model's tensors; those without an anchor are left out.

        Raises:
            ValueError: when the model lacks an anchored tensor of ``names``, or shapes of anchors
                and the model's tensors differ; the message lists all of them.
        """
        kind, named = _tensors_of(model)
        known = [name for name in names if name in self.tensors]
        lacking = [name for name in known if name not in named]
        if lacking:
            raise ValueError(
                f"anchors of {', '.join(lacking)}, which {kind} lacks: take the names from the "
                "model (named_parameters, named_buffers), or make a new anchor with "
                "WeightAnchor.of"
            )
        wrong = [
            f"{name}: {tuple(self.tensors[name].shape)}, the model's is {tuple(named[name].shape)}"
            for name in known
            if self.tensors[name].shape != named[name].shape
        ]
        if wrong:
            raise ValueError(
                f"anchors whose shapes do not fit the model: {'; '.join(wrong)}. Anchors need the "
                "model's architecture; a layer that grows belongs to the head (feature_module "
                "names the place where the head begins)"
            )
        return known


def _tensors_of(model: nn.Module) -> tuple[str, dict[str, Tensor]]:
    """Return the name of the model's class, and its parameters and buffers by name."""
    inner = unwrap(model)
    return type(inner).__name__, {**dict(inner.named_parameters()), **dict(inner.named_buffers())}
