"""A zero-shot head from the text embeddings of the class names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_proxyfda._checks import check_amount
from avalanche_proxyfda._files import expanded
from avalanche_proxyfda._prompts import check_template
from avalanche_proxyfda.models.text_features import text_features
from avalanche_proxyfda.models.text_key import text_device

TEMPLATES = ("a photo of a {}.", "an image of a {}.", "a drawing of a {}.", "a {}.")
"""The usual prompts of a zero-shot head; ``{}`` is the place of the class name."""


class TextHead(nn.Module):
    """Classifies embeddings by their cosines with the class embeddings.

    The logits are the cosines times ``scale``. The class embeddings are buffers, so the head
    has no trainable parameters and does not grow.

    With ``train_weight``, the head has other class embeddings in training mode. ZSCL trains with
    one template and tests with an ensemble (Zheng et al., ICCV 2023). The copy of the model that
    is a teacher keeps the texts of training, so that its logits compare with the student's.

    Args:
        weight: [C, D] embeddings of the classes; the head normalises the rows.
        scale: factor of the cosines; CLIP learns about 100.
        train_weight: [C, D] embeddings of the classes in training mode; None takes ``weight`` in
            both modes, and is no part of the state.

    Raises:
        TypeError: when ``scale`` is no number.
        ValueError: when a weight is no matrix of floats, or has a row that is zero or not
            finite, ``train_weight`` has another shape than ``weight``, or ``scale`` is negative
            or not finite.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.models import TextHead
        >>> head = TextHead(torch.tensor([[2.0, 0.0], [0.0, 3.0]]), scale=10.0)
        >>> head(torch.tensor([[5.0, 0.0]]))
        tensor([[10.,  0.]])
    """

    weight: Tensor
    scale: Tensor
    train_weight: Tensor | None

    def __init__(
        self, weight: Tensor, scale: float = 100.0, train_weight: Tensor | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("weight", _unit_rows("weight", weight))
        factor = torch.tensor(check_amount("scale", scale), device=weight.device)
        self.register_buffer("scale", factor)
        if train_weight is not None:
            if train_weight.shape != weight.shape:
                raise ValueError(
                    f"train_weight has shape {tuple(train_weight.shape)}, weight has "
                    f"{tuple(weight.shape)}: give texts of the same classes"
                )
            train_weight = _unit_rows("train_weight", train_weight)
        self.register_buffer("train_weight", train_weight)

    @property
    def trains_on_other_texts(self) -> bool:
        """True if the logits of training come from other texts than those of evaluation."""
        return self.train_weight is not None

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return len(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, C] of embeddings [B, D]."""
        other = self.train_weight if self.training else None
        weight = self.weight if other is None else other
        return self.scale.to(x.dtype) * F.normalize(x, dim=1) @ weight.to(x.dtype).T


def _unit_rows(name: str, weight: Tensor) -> Tensor:
    if weight.ndim != 2 or not weight.is_floating_point():
        raise ValueError(
            f"{name} has shape {tuple(weight.shape)} of {weight.dtype}; expected floats [C, D]"
        )
    norms = weight.detach().norm(dim=1)
    if not bool((norms > 0).all()) or not bool(norms.isfinite().all()):
        raise ValueError(
            f"{name} has a row that is zero, NaN or infinite; check the text model's weights"
        )
    return F.normalize(weight.detach().clone(), dim=1)


def check_prompts(classes: Sequence[str], templates: Sequence[str]) -> None:
    """Refuse names and templates that make no prompts.

    Args:
        classes: class names, in order of label.
        templates: prompts with ``{}`` in the place of the name.

    Raises:
        ValueError: for no class, duplicate names, no template, or a template that has not one
            ``{}`` or has another brace.
    """
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(f"classes={list(classes)} must be different names, at least one")
    _check_templates("templates", templates)


def text_head(
    clip: nn.Module,
    tokenizer: Callable[[list[str]], Tensor],
    classes: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
    device: torch.device | str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    train_templates: Sequence[str] | None = None,
) -> TextHead:
    """Build the zero-shot head of a CLIP model for ``classes``, as open_clip does.

    A class embedding is the normalised mean of the normalised text embeddings of all templates
    with the class name (Radford et al., ICML 2021). Embeddings of the same content are computed
    once, see :func:`~avalanche_proxyfda.models.text_features.text_features`.

    Args:
        clip: an open_clip model.
        tokenizer: the model's tokenizer.
        classes: class names, in order of label.
        templates: prompts with ``{}`` in the place of the name.
        device: device of the head, which computes the embeddings; None takes the device of the
            text tower.
        cache_dir: folder of files with embeddings for later processes; None keeps them in this
            process alone.
        train_templates: prompts of the head in training mode; None takes ``templates``.

    Raises:
        ValueError: for no class, duplicate names, no template, a template that has not one
            ``{}`` or has another brace, or a prompt that is longer than the text tower's context.
        OSError: if a file of the cache cannot be written.

    Example:
        >>> import open_clip
        >>> import torch
        >>> from avalanche_proxyfda.models import text_head
        >>> image = dict(image_size=8, patch_size=4, layers=1, width=8, head_width=8)
        >>> text = dict(width=8, heads=1, layers=1)
        >>> clip = open_clip.model.CLIP(4, image, text)
        >>> head = text_head(clip, open_clip.tokenize, ["cat", "dog", "owl"], ["a photo of a {}."])
        >>> head(torch.ones(2, 4)).shape
        torch.Size([2, 3])
    """
    check_prompts(classes, templates)
    if train_templates is not None:
        _check_templates("train_templates", train_templates)
    place = text_device(clip) if device is None else torch.device(device)
    folder = None if cache_dir is None else expanded(cache_dir)
    weight = text_features(clip, tokenizer, classes, templates, place, folder)
    train_weight = None
    if train_templates is not None:
        train_weight = text_features(clip, tokenizer, classes, train_templates, place, folder)
    scale = getattr(clip, "logit_scale", None)
    factor = 100.0 if scale is None else float(scale.detach().cpu().exp())
    return TextHead(weight, factor, train_weight)


def _check_templates(name: str, templates: Sequence[str]) -> None:
    if isinstance(templates, str) or not templates:
        raise ValueError(f"{name}={templates!r} must be a list that holds one prompt at least")
    for template in templates:
        check_template(name, template)
