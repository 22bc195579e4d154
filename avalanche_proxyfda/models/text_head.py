"""A zero-shot head: texts of the classes, embedded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_proxyfda.losses.base import check_amount

TEMPLATES = ("a photo of a {}.", "an image of a {}.", "a drawing of a {}.", "a {}.")


class TextHead(nn.Module):
    """Logits are scaled cosines of embeddings and class texts; the texts are buffers.

    Nothing in it is trained, and nothing grows: it knows its classes from the start.

    Args:
        weight: [C, D] embeddings of the classes; normalised here.
        scale: of the cosines; CLIP's learnt one is about 100.

    Raises:
        ValueError: when ``weight`` is no matrix of floats, or has a zero row.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, scale: float = 100.0) -> None:
        super().__init__()
        if weight.ndim != 2 or not weight.is_floating_point():
            raise ValueError(f"weight has shape {tuple(weight.shape)}; expected floats [C, D]")
        norms = weight.detach().norm(dim=1)
        if not bool((norms > 0).all()) or not bool(norms.isfinite().all()):
            raise ValueError("weight has a row that is zero, NaN or infinite")
        self.register_buffer("weight", F.normalize(weight.detach().clone(), dim=1))
        self.register_buffer("scale", torch.tensor(check_amount("scale", scale)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C] of embeddings [B, D]."""
        return self.scale.to(x.dtype) * F.normalize(x, dim=1) @ self.weight.to(x.dtype).T


def text_head(
    clip: nn.Module,
    tokenizer: Callable[[list[str]], Tensor],
    classes: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
) -> TextHead:
    """The zero-shot head of a CLIP for ``classes``, by open_clip's own recipe.

    Each class is the normalised mean of the embeddings of its name in every template.

    Args:
        clip: an open_clip model.
        tokenizer: that belongs to it.
        classes: names, in the order of the labels of the stream.
        templates: prompts with ``{}`` for the name.

    Raises:
        ValueError: for no class or template, names that repeat, templates without ``{}``.
    """
    from open_clip import build_zero_shot_classifier

    if not classes or len(set(classes)) < len(classes):
        raise ValueError("classes must be different names, at least one")
    wrong = [template for template in templates if "{}" not in template]
    if wrong or not templates:
        raise ValueError(f"templates={list(templates)} must each hold {{}} for the class's name")
    device = next(clip.parameters()).device
    was_training = clip.training
    clip.eval()
    weight = build_zero_shot_classifier(
        clip, tokenizer, list(classes), list(templates), device=device
    )
    clip.train(was_training)
    scale = getattr(clip, "logit_scale", None)
    return TextHead(weight.T, 100.0 if scale is None else float(scale.detach().exp()))
