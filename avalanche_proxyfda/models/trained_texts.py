"""Zero-shot heads whose text tower is trained: class texts are encoded anew in each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from avalanche.models.dynamic_modules import DynamicModule
from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_proxyfda._checks import check_flag, named_kind
from avalanche_proxyfda._modes import in_eval_mode
from avalanche_proxyfda._tensors import without_autocast
from avalanche_proxyfda.models.text_head import TEMPLATES, TextHead, check_prompts
from avalanche_proxyfda.models.text_tokens import text_tokens
from avalanche_proxyfda.models.text_tower import TextTower

ABSENT = -1e4
"""Logit of a class that is left out."""
_AT_ONCE = 10  # classes of a forward in evaluation, as for fixed heads
_SCALE = 100.0  # of a model that has learnt none


def class_embeddings(text: TextTower, tokens: Tensor) -> Tensor:
    """Return the embeddings [C, D] of classes, as open_clip computes them.

    A class embedding is the normalised mean of the normalised text embeddings of its prompts
    (Radford et al., ICML 2021).

    Args:
        text: maps ids [M, L] to embeddings [M, D].
        tokens: ids of T prompts a class, [C, T, L].
    """
    classes, prompts, _ = tokens.shape
    rows = F.normalize(text(tokens.flatten(0, 1).to(_place(text))), dim=-1)
    mean = rows.reshape(classes, prompts, -1).mean(dim=1)
    unit: Tensor = mean / mean.norm(dim=1, keepdim=True)
    return unit


class TrainedTextHead(DynamicModule):  # type: ignore[misc]  # Avalanche is not typed
    """Classifies embeddings by their cosines with texts of a text tower that is trained.

    In training mode each forward encodes the texts of all classes anew, with gradient and under
    the autocast of the training. The memory of a step is that of ``C * T`` texts. In eval mode
    the head equals :class:`TextHead` of the weights as they stand. The texts are then encoded
    once for a state of the weights, ten classes at a time, without autocast, and cached until a
    weight is written or training goes on.

    The head has no parameters. It refers to the text tower, which is a submodule of the model
    and not of the head. The logit scale is that of the text tower, and is not trained.

    Args:
        text: text tower of the model.
        tokens: ids of T prompts a class, [C, T, L].
        training_tokens: ids of the prompts in training, [C, T', L]; None takes ``tokens``.
        by_experience: True encodes the classes of the present experience alone in training.
            The logits of all other classes are then -10 000, so a sample of such a class, for
            example of a replay buffer, must not be in a batch, and no method can keep their
            logits. Evaluation always has all classes. False encodes all classes.

    Raises:
        TypeError: if ``text`` is no :class:`TextTower`, or ``by_experience`` is no bool.
        ValueError: if the ids have another shape or are no whole numbers.

    Example:
        >>> import torch
        >>> from open_clip.model import CLIP
        >>> from avalanche_proxyfda.models import TextTower, TrainedTextHead
        >>> image = dict(image_size=8, patch_size=4, layers=1, width=8, head_width=8)
        >>> text = dict(context_length=6, vocab_size=10, width=8, heads=1, layers=1)
        >>> tokens = torch.tensor([[[1, 9, 0, 0, 0, 0]], [[2, 9, 0, 0, 0, 0]]])  # a prompt a class
        >>> head = TrainedTextHead(TextTower(CLIP(4, image, text)), tokens)
        >>> head(torch.ones(3, 4)).shape, head(torch.ones(3, 4)).requires_grad
        (torch.Size([3, 2]), True)
    """

    tokens: Tensor
    training_tokens: Tensor
    _forwards: Tensor

    def __init__(
        self,
        text: TextTower,
        tokens: Tensor,
        training_tokens: Tensor | None = None,
        by_experience: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(text, TextTower):
            raise TypeError(f"text is {named_kind(text)}: pass TextTower(clip)")
        _check_tokens("tokens", tokens)
        if training_tokens is not None:
            _check_tokens("training_tokens", training_tokens)
            if len(training_tokens) != len(tokens):
                raise ValueError(
                    f"training_tokens has {len(training_tokens)} classes, tokens has "
                    f"{len(tokens)}: give the prompts of the same classes"
                )
        self.by_experience = check_flag("by_experience", by_experience)
        # a tuple, so that the tower is no submodule of the head
        self._text = (text,)
        self.register_buffer("tokens", tokens, persistent=False)
        training = tokens if training_tokens is None else training_tokens
        self.register_buffer("training_tokens", training, persistent=False)
        # a tensor, since torch.compile would compile anew for each value of an int
        self.register_buffer("_forwards", torch.zeros((), dtype=torch.long), persistent=False)
        self._present: Tensor | None = None  # classes of the experience; None: all
        self._kept: tuple[list[tuple[int, int]], TextHead] | None = None

    @property
    def text(self) -> TextTower:
        """The text tower."""
        return self._text[0]

    @property
    def trains_on_other_texts(self) -> bool:
        """True if the logits of training come from other texts than those of evaluation."""
        return not torch.equal(self.training_tokens, self.tokens)

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return len(self.tokens)

    @property
    def forwards(self) -> int:
        """Forwards of the text tower for this head in training, with gradient, so far."""
        return int(self._forwards)

    def adaptation(self, experience: Any) -> None:
        """Note the classes of a training experience, if the head goes by experience.

        Raises:
            ValueError: if the experience has a label beyond the head's classes.
        """
        if not (self.by_experience and self.training):
            return
        labels = sorted(int(label) for label in experience.classes_in_this_experience)
        if labels and not 0 <= labels[0] <= labels[-1] < self.classes:
            raise ValueError(
                f"the experience has labels from {labels[0]} to {labels[-1]}, the head has "
                f"{self.classes} classes: build the head with the texts of all classes"
            )
        # on the device, since each use of numbers of the host waits for the device
        self._present = torch.tensor(labels, dtype=torch.long, device=self.tokens.device)

    def train(self, mode: bool = True) -> TrainedTextHead:
        """Set the mode; training mode drops the cached texts."""
        if mode:
            self._kept = None
        super().train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, C] of embeddings [B, D]."""
        if not self.training:
            logits: Tensor = self.fixed()(x)
            return logits
        self._kept = None
        if torch.is_grad_enabled():  # a teacher's copy does not count, and writes no tensor
            self._forwards += 1
        tokens, present = self.training_tokens, self._present_on(self.training_tokens.device)
        chosen = tokens if present is None else tokens.index_select(0, present)
        weight = class_embeddings(self.text, chosen)
        scale = self.text.scale
        factor: Any = _SCALE if scale is None else scale.reshape(()).to(x.dtype)
        logits = factor * F.normalize(x, dim=1) @ weight.to(x.dtype).T
        if present is None:
            return logits
        wide = logits.new_full((len(x), self.classes), ABSENT)
        return wide.index_copy(1, present.to(logits.device), logits)

    def _present_on(self, device: torch.device) -> Tensor | None:
        """Return the classes of the experience on ``device``, and keep them there."""
        if self._present is not None and self._present.device != device:
            self._present = self._present.to(device)
        return self._present

    def fixed(self) -> TextHead:
        """Return the zero-shot head of the weights as they stand, which later steps do not change.

        Raises:
            ValueError: if the text tower gives an embedding that is zero, NaN or infinite.
        """
        head: TextHead = self._current()
        return head

    # a compiled forward would not look at the versions of the weights
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def _current(self) -> TextHead:
        """Return the kept head, or a new one if a weight was written."""
        text = self.text
        tensors = (*text.parameters(), *text.buffers())
        state = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        if self._kept is None or self._kept[0] != state:
            with in_eval_mode(text), without_autocast(next(text.parameters())):
                parts = torch.split(self.tokens, _AT_ONCE)
                chunks = [class_embeddings(text, part).T for part in parts]
            scale = text.scale
            head = TextHead(torch.cat(chunks, dim=1).T, _SCALE if scale is None else float(scale))
            self._kept = state, head
        return self._kept[1]


def trained_text_head(
    text: TextTower,
    tokenizer: Callable[[list[str]], Tensor],
    classes: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
    training_templates: Sequence[str] | None = None,
    by_experience: bool = False,
) -> TrainedTextHead:
    """Build the zero-shot head of a text tower that is trained.

    Args:
        text: text tower of the model.
        tokenizer: the model's tokenizer.
        classes: class names, in order of label.
        templates: prompts with ``{}`` in the place of the name.
        training_templates: the prompts of training; None takes ``templates``.
        by_experience: see :class:`TrainedTextHead`.

    Raises:
        ValueError: see :func:`~avalanche_proxyfda.models.text_head`.

    Example:
        >>> import open_clip
        >>> from avalanche_proxyfda.models import TextTower, trained_text_head
        >>> image = dict(image_size=8, patch_size=4, layers=1, width=8, head_width=8)
        >>> text = dict(width=8, heads=1, layers=1)
        >>> tower = TextTower(open_clip.model.CLIP(4, image, text))
        >>> head = trained_text_head(tower, open_clip.tokenize, ["cat", "dog", "owl"], ["a {}."])
        >>> head.classes, head.tokens.shape
        (3, torch.Size([3, 1, 77]))
    """

    def tokens(prompts: Sequence[str]) -> Tensor:
        check_prompts(classes, prompts)
        texts = [prompt.format(name) for name in classes for prompt in prompts]
        ids = text_tokens(tokenizer, texts)
        return ids.reshape(len(classes), len(prompts), -1)

    training = None if training_templates is None else tokens(training_templates)
    return TrainedTextHead(text, tokens(templates), training, by_experience)


class TwoTowers(nn.Module):
    """An image tower and a trained text tower with one zero-shot head for all classes.

    The submodules are ``text``, ``tower`` and ``head``. A model with one head a task is
    :class:`~avalanche_proxyfda.models.TaskHeads` with heads of the text tower.

    Args:
        tower: maps images [B, ...] to embeddings [B, D].
        head: zero-shot head of the text tower.

    Example:
        >>> import torch
        >>> from open_clip.model import CLIP
        >>> from avalanche_proxyfda.models import TextTower, TrainedTextHead, TwoTowers
        >>> image = dict(image_size=8, patch_size=4, layers=1, width=8, head_width=8)
        >>> text = dict(context_length=6, vocab_size=10, width=8, heads=1, layers=1)
        >>> clip = CLIP(4, image, text)
        >>> tokens = torch.tensor([[[1, 9, 0, 0, 0, 0]], [[2, 9, 0, 0, 0, 0]]])  # a prompt a class
        >>> model = TwoTowers(clip.visual, TrainedTextHead(TextTower(clip), tokens))
        >>> model(torch.zeros(3, 3, 8, 8)).shape
        torch.Size([3, 2])
    """

    def __init__(self, tower: nn.Module, head: TrainedTextHead) -> None:
        super().__init__()
        self.text, self.tower, self.head = head.text, tower, head

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, C]; the image tower runs once."""
        logits: Tensor = self.head(self.tower(x))
        return logits


def text_of(heads: Iterable[nn.Module]) -> TextTower | None:
    """Return the text tower of heads; None for fixed heads.

    Raises:
        ValueError: if some heads are fixed and others not, or they have different towers.
    """
    towers = [head.text if isinstance(head, TrainedTextHead) else None for head in heads]
    if any(tower is not towers[0] for tower in towers):
        raise ValueError(
            "the heads have different text towers, or only some are fixed: build all heads of "
            "one text tower"
        )
    return towers[0] if towers else None


def _check_tokens(name: str, tokens: Tensor) -> None:
    whole = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
    if tokens.ndim != 3 or not whole or 0 in tokens.shape:
        raise ValueError(
            f"{name} has shape {tuple(tokens.shape)} of {tokens.dtype}; expected token ids "
            "[C, T, L], of T prompts for each of C classes"
        )


def _place(text: TextTower) -> torch.device:
    return next(text.parameters()).device
