"""An image tower with its preprocessing."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_proxyfda.models.preprocessing import Transform

RANDOM = "random"
_LONGEST = 300
"""Letters of a library's message in an error."""


@dataclass(frozen=True)
class Backbone:
    """An image tower with its preprocessing and, for CLIP, its text side.

    Attributes:
        name: name that was passed to :func:`~avalanche_proxyfda.models.load_backbone`.
        tower: maps images [B, 3, H, W] to embeddings [B, D]; trainable, in eval mode.
        dim: D.
        train_transform: maps an RGB image of PIL to a tensor, with random crops and flips.
        eval_transform: maps an RGB image of PIL to a tensor, without randomness.
        clip: the whole CLIP model; None for timm.
        tokenizer: maps texts to token ids; None for timm.
        preprocessing: settings of ``eval_transform``, which
            :func:`~avalanche_proxyfda.models.preprocessing.eval_view` takes; empty if unknown.
        recipe: arguments that build the tower again, without its weights; empty if unknown.

    Example:
        >>> from PIL import Image
        >>> from torch import nn
        >>> from torchvision.transforms import ToTensor
        >>> from avalanche_proxyfda.models import Backbone
        >>> tower = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 16))
        >>> backbone = Backbone("my tower", tower, 16, ToTensor(), ToTensor())
        >>> image = backbone.eval_transform(Image.new("RGB", (8, 8)))
        >>> backbone.tower(image.unsqueeze(0)).shape
        torch.Size([1, 16])
    """

    name: str
    tower: nn.Module
    dim: int
    train_transform: Transform
    eval_transform: Transform
    clip: nn.Module | None = None
    tokenizer: Callable[[list[str]], Tensor] | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)


@torch.no_grad()
def width(tower: nn.Module, side: int, name: str) -> int:
    """Return the width of the tower's embeddings, measured on a blank image.

    Raises:
        ValueError: if the tower does not take images of that size, or gives no matrix.
    """
    try:
        embedding: Tensor = tower(torch.zeros(1, 3, side, side))
    except Exception as error:
        raise ValueError(
            f"{name} does not take images of {side} x {side} ({error}): choose another image_size, "
            "or pass the size in options (for timm's ViTs: {'img_size': SIDE})"
        ) from error
    if not isinstance(embedding, Tensor) or embedding.ndim != 2:
        raise ValueError(f"{name} does not give one vector an image; choose another model")
    return embedding.shape[1]


def created(
    create: Callable[[], Any], name: str, options: Mapping[str, Any], downloads: bool
) -> Any:
    """Return the result of ``create``, a library's constructor.

    Args:
        create: builds the model.
        name: name of the model, for errors.
        options: arguments of the user, for errors.
        downloads: True if the library reads weights of its hub.

    Raises:
        ConnectionError: if a file of the hub cannot be had.
        ValueError: if the library refuses an option; the message is one line.
    """
    try:
        return create()
    except Exception as error:
        said = textwrap.shorten(str(error), _LONGEST, placeholder=" …")  # ends at a word
        about = f"{type(error).__name__}: {said}"
        if isinstance(error, OSError) or (downloads and isinstance(error, RuntimeError)):
            raise ConnectionError(
                f"the weights of {name} could not be downloaded ({about}): check the network, or "
                "pass weights=FILE"
                if downloads
                else f"{name} needs a file of Hugging Face, beside its weights ({about}): load "
                "the model once with a network"
            ) from error
        if options:
            raise ValueError(
                f"options={dict(options)}: {name} does not take them ({about}); remove or change "
                "them"
            ) from error
        raise
