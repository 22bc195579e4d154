"""Token ids of reference texts, checked and encoded by a text tower."""

from __future__ import annotations

from torch import Tensor, nn

from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.models.text_tower import TextTower, find_text_tower


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
            f"{int(tokens.max())}, and the text tower has a vocabulary of {size}: pass ids of the "
            "model's own tokenizer"
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
        f"the context length of {type(tower.clip).__name__} is not known: give text features, "
        "float [M, D], in place of token ids"
    )


def padded(tower: TextTower, tokens: Tensor) -> Tensor:
    """Return token ids [M, L] filled up with 0 to the tower's context, on the tower's device."""
    device = next(tower.parameters()).device
    missing = context_of(tower)[0] - tokens.shape[1]
    return nn.functional.pad(tokens, (0, missing)).to(device)
