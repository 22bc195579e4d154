"""The embedded foundation model: a CLIP of 1.6 M parameters, ready to use offline.

It is open_clip's own ``CLIP`` class with a small configuration, pre-trained by
``python -m benchmarks.tiny_clip.pretrain`` on drawn image-caption pairs; MODEL_CARD.md
says how and how well.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from torch import Tensor

from avalanche_proxyfda.models import read_weights

FOLDER = Path(__file__).parent
WEIGHTS = FOLDER / "weights.safetensors"
_END = 257  # the highest id: open_clip reads the text feature where the id is largest


def build() -> CLIP:
    """The untrained model, initialised from torch's global generator."""
    config: dict[str, Any] = json.loads((FOLDER / "config.json").read_text())
    return CLIP(**config)


def load(weights: Path = WEIGHTS) -> CLIP:
    """The pre-trained model in float32 and eval mode.

    Raises FileNotFoundError when the weights are missing, ValueError when they are damaged or
    another file's, and RuntimeError (from torch) when they do not fit the configuration.
    """
    if not weights.is_file():
        raise FileNotFoundError(
            f"weights={weights} not found: the file belongs to the repository; restore it or "
            "make it again with `python -m benchmarks.tiny_clip.pretrain`"
        )
    model = build()
    # stored as float16 to stay small; copying into the float32 parameters widens them
    model.load_state_dict(read_weights(weights))
    return model.eval()


def tokenize(texts: list[str], context_length: int = 52) -> Tensor:
    """Byte-level ids, int64 [len(texts), context_length]: bytes + 1, then 257, then zeros.

    Raises ValueError for a text that does not fit.
    """
    ids = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in enumerate(texts):
        raw = text.encode("utf-8")
        if len(raw) >= context_length:
            raise ValueError(
                f"texts[{row}]={text!r} has {len(raw)} bytes; at most {context_length - 1} fit"
            )
        ids[row, : len(raw)] = torch.tensor([b + 1 for b in raw], dtype=torch.long)
        ids[row, len(raw)] = _END
    return ids


def to_input(pixels: Tensor) -> Tensor:
    """uint8 pixels [..., 3, 32, 32] to the float input of the model, in [-1, 1]."""
    return pixels.float() / 127.5 - 1.0
