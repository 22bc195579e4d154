"""Heads as linear layers: which entries of a model's state make the logits of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from avalanche.models import IncrementalClassifier
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_proxyfda._checks import named_kind
from avalanche_proxyfda.models import (
    GrowingTextHead,
    SeenTextHead,
    TextHead,
    TextHeads,
    TrainedTextHead,
    UnitHeads,
    UnitLinear,
)

_NEVER_SEEN = -1000.0  # Avalanche's logit of a class that no experience had


@dataclass(frozen=True)
class Layer:
    """The entries of a state that classify embeddings [B, D] of one task.

    Attributes:
        weight: name of the weight, [C, D].
        bias: name of the bias, [C]; None without one.
        scale: name of the factor of the embeddings, a number; None without one.
        active: name of the marks of classes that were seen, [C]; None if all were.
        unit: True if embeddings are L2-normalised first.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.tuned import Layer
        >>> layer = Layer("head.weight", bias="head.bias", scale=None, active=None, unit=False)
        >>> state = {"head.weight": torch.eye(2), "head.bias": torch.tensor([0.0, 1.0])}
        >>> layer.logits(state, torch.tensor([[3.0, 4.0]]))
        tensor([[3., 5.]])
        >>> layer.names
        ('head.weight', 'head.bias')
    """

    weight: str
    bias: str | None
    scale: str | None
    active: str | None
    unit: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the entries that the layer has, the weight first."""
        given = (self.weight, self.bias, self.scale, self.active)
        return tuple(name for name in given if name is not None)

    def logits(self, state: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Return logits [B, C] of embeddings [B, D].

        Args:
            state: tensors by name, among them all :attr:`names`.
            x: embeddings, on the device of the state.

        Raises:
            ValueError: if ``state`` lacks an entry of the layer.
        """
        lacking = [name for name in self.names if name not in state]
        if lacking:
            raise ValueError(
                f"state has no {', '.join(lacking)}, which the layer names: give the state of the "
                "head"
            )
        if self.unit:
            x = F.normalize(x, dim=-1)
        if self.scale is not None:
            x = state[self.scale] * x
        bias = None if self.bias is None else state[self.bias]
        found = F.linear(x, state[self.weight], bias)
        if self.active is not None:
            found = found.masked_fill(state[self.active] == 0, _NEVER_SEEN)
        return found


def layers_of(head: nn.Module, prefix: str = "head.") -> tuple[Layer, ...]:
    """Return the layers of a head, one a task.

    Args:
        head: ``nn.Linear``, Avalanche's ``IncrementalClassifier``, or a head of
            :mod:`avalanche_proxyfda.models`.
        prefix: start of the names of its state in the model.

    Raises:
        TypeError: for another head.

    Example:
        >>> from torch import nn
        >>> from avalanche_proxyfda.tuned.layers import layers_of
        >>> layers_of(nn.Linear(4, 2))[0].weight
        'head.weight'
    """
    if isinstance(head, (UnitHeads, TextHeads)):
        return tuple(
            _layer(each, f"{prefix}heads.{task}.", isinstance(head, UnitHeads))
            for task, each in enumerate(head.heads)
        )
    return (_layer(head, prefix),)


def _layer(head: nn.Module, prefix: str, unit: bool = False) -> Layer:
    if type(head) in (TextHead, TrainedTextHead, SeenTextHead):
        return Layer(f"{prefix}weight", None, f"{prefix}scale", None, True)
    if type(head) in (nn.Linear, UnitLinear):
        bias = None if head.bias is None else f"{prefix}bias"
        return Layer(f"{prefix}weight", bias, None, None, unit or type(head) is UnitLinear)
    if type(head) in (IncrementalClassifier, GrowingTextHead):
        active = f"{prefix}active_units" if head.masking else None
        inner = f"{prefix}classifier."
        grown = type(head) is GrowingTextHead
        return Layer(f"{inner}weight", f"{inner}bias", None, active, grown)
    raise TypeError(
        f"head is {named_kind(head)}: its logits cannot be described; use nn.Linear, "
        "IncrementalClassifier or a head of avalanche_proxyfda.models"
    )
