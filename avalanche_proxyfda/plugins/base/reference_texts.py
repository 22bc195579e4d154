"""Text features of reference texts, by the student's text tower and by a teacher's copy."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.models.text_tower import TextTower, find_text_tower
from avalanche_proxyfda.strategies.precision import autocast_to
from avalanche_proxyfda.teacher.teacher import _kernels_of_training


def tower_for(model: nn.Module, data: ReferenceData) -> TextTower:
    """Return the text tower that encodes the token ids of ``data``.

    Raises:
        ValueError: if ``model`` has none, or the ids do not fit it.
    """
    tower, tokens = find_text_tower(unwrap(model)), data.tokens
    assert tokens is not None
    if tower is None:
        raise ValueError(
            f"the reference texts are token ids, and {type(model).__name__} holds no TextTower "
            "that encodes them: give text features, float [M, D], or train the text tower"
        )
    length, size = context_of(tower)
    if tokens.shape[1] > length:
        raise ValueError(
            f"the reference texts have {tokens.shape[1]} token ids, and the text tower takes "
            f"{length}: shorten the texts, or pass ids of the model's own tokenizer"
        )
    if int(tokens.min()) < 0 or int(tokens.max()) >= size:
        raise ValueError(
            f"the reference texts hold token ids from {int(tokens.min())} to "
            f"{int(tokens.max())}, and the text tower has a vocabulary of {size}"
        )
    return tower


def context_of(tower: TextTower) -> tuple[int, int]:
    """Return the number of token ids that a text has, and the size of the vocabulary."""
    parts = (tower.clip, getattr(tower.clip, "text", None))  # CLIP, and CustomTextCLIP
    for clip in parts:
        positions = getattr(clip, "positional_embedding", None)
        words = getattr(clip, "token_embedding", None)
        if isinstance(positions, Tensor) and isinstance(words, nn.Embedding):
            return len(positions), words.num_embeddings
    raise ValueError(
        f"the text tower of {type(tower.clip).__name__} does not tell its context length: give "
        "text features, float [M, D], in place of token ids"
    )


def encoded(tower: TextTower, tokens: Tensor) -> Tensor:
    """Return the text features [M, D] of token ids [M, L], filled up with 0 to the context."""
    device = next(tower.parameters()).device
    missing = context_of(tower)[0] - tokens.shape[1]
    features: Tensor = tower(nn.functional.pad(tokens, (0, missing)).to(device))
    return features


@torch.no_grad()
def encoded_by_teacher(
    tower: TextTower, tokens: Tensor, autocast: torch.dtype | None, trained: bool
) -> Tensor:
    """Return a frozen tower's text features, with the kernels that the student's tower takes.

    Args:
        tower: the teacher's copy.
        tokens: token ids, [M, L].
        autocast: dtype of the student's autocast; None without autocast.
        trained: True if the student's tower is trained.
    """
    device = next(tower.parameters()).device
    lower = autocast_to(autocast, device) if autocast else nullcontext()
    with lower, _kernels_of_training(list(tower.parameters()) if trained else []):
        return encoded(tower, tokens)
