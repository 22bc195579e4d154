"""Logits of a zero-shot head from its definition, a class and a prompt at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def class_embedding(clip: Any, prompts: Tensor) -> Tensor:
    """Unit mean of the unit text embeddings of a class, [D].

    Args:
        clip: the whole CLIP model.
        prompts: ids of the prompts, [T, L].
    """
    total: Any = 0
    for ids in prompts:
        row = clip.encode_text(ids[None])[0]
        total = total + row / (row * row).sum().sqrt()
    mean = total / len(prompts)
    unit: Tensor = mean / (mean * mean).sum().sqrt()
    return unit


def logits(clip: Any, tokens: Tensor, rows: Tensor) -> Tensor:
    """Cosines of embeddings [B, D] with the classes, times the exponential of the logit scale.

    Args:
        clip: the whole CLIP model.
        tokens: ids, [C, T, L].
        rows: embeddings, [B, D].
    """
    table = []
    for row in rows:
        unit = row / (row * row).sum().sqrt()
        cosines = [(unit * class_embedding(clip, prompts)).sum() for prompts in tokens]
        table.append(torch.stack(cosines) * clip.logit_scale.detach().exp())
    return torch.stack(table)
