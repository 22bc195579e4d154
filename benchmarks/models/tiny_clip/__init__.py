"""The embedded foundation model: a CLIP of 1.6 M parameters, ready to use offline.

The model is open_clip's ``CLIP`` class with a small configuration.
``python -m benchmarks.models.tiny_clip.pretrain`` pre-trains it on drawn image-caption pairs.
MODEL_CARD.md describes the training and the accuracy.
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


def config() -> dict[str, Any]:
    """Return the arguments of open_clip's ``CLIP``."""
    content: dict[str, Any] = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    return content


def build() -> CLIP:
    """Build the untrained model; torch's global generator initialises it."""
    return CLIP(**config())


def load(weights: Path = WEIGHTS) -> CLIP:
    """Load the pre-trained model, in float32 and eval mode.

    Args:
        weights: weights file.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if the file is damaged, or is no weights file.
        RuntimeError: if the weights do not fit the configuration (from torch).
    """
    if not weights.is_file():
        raise FileNotFoundError(
            f"weights={weights} not found: the file belongs to the repository; restore it or "
            "make it again with `python -m benchmarks.models.tiny_clip.pretrain`"
        )
    model = build()
    # the file has float16 to be small; copying to the float32 parameters converts them
    model.load_state_dict(read_weights(weights))
    return model.eval()


def tokenize(texts: list[str], context_length: int = 52) -> Tensor:
    """Tokenize texts by bytes.

    Args:
        texts: N texts.
        context_length: length of a row of ids.

    Returns:
        [N, context_length] int64 ids: each byte + 1, then 257, then zeros.

    Raises:
        ValueError: if a text is too long.
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
