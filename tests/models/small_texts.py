"""A CLIP of width 8 with a tokenizer by letters, and models with both of its towers."""

from __future__ import annotations

import torch
from open_clip.model import CLIP
from torch import Tensor, nn

from avalanche_proxyfda.models import (
    TaskHeads,
    TextHeads,
    TextTower,
    TrainedTextHead,
    TwoTowers,
    trained_text_head,
)

IMAGE = {"image_size": 8, "patch_size": 4, "layers": 2, "width": 8, "head_width": 8}
TEXT = {"context_length": 8, "vocab_size": 30, "width": 8, "heads": 1, "layers": 2}
NAMES = ("ab", "cd", "efg", "h", "ij", "k")
PROMPTS = ("{}", "a {}")


def tokenize(texts: list[str]) -> Tensor:
    """Ids of letters from 1, then 29, then zeros: [N, 8]."""
    ids = torch.zeros(len(texts), 8, dtype=torch.long)
    for row, text in enumerate(texts):
        letters = [1 + ord(c) - ord("a") if c != " " else 27 for c in text]
        ids[row, : len(letters) + 1] = torch.tensor([*letters, 29])
    return ids


def small_clip(seed: int = 0, dim: int = 8) -> CLIP:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clip = CLIP(dim, IMAGE, TEXT)
        for parameter in clip.parameters():
            if parameter.ndim > 0:
                nn.init.normal_(parameter, std=0.3)
    return clip.eval()


def text_heads(*sizes: int, text: TextTower | None = None) -> list[TrainedTextHead]:
    """One head for each number of classes."""
    tower = text or TextTower(small_clip())
    return [trained_text_head(tower, tokenize, NAMES[:size], PROMPTS) for size in sizes]


def two_towers(tower: nn.Module | None = None, classes: int = 6) -> TwoTowers:
    """A model with one head; the image tower is the CLIP's unless given."""
    clip = small_clip()
    (head,) = text_heads(classes, text=TextTower(clip))
    return TwoTowers(tower or clip.visual, head)


def by_task(tower: nn.Module, *sizes: int) -> TaskHeads:
    """A model with a head for each task."""
    return TaskHeads(tower, 8, sizes, TextHeads(text_heads(*sizes)))
