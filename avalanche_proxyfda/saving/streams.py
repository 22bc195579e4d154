"""All random streams that training draws from."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def random_state(device: torch.device) -> dict[str, Any]:
    """The streams of Python, NumPy, and torch on the CPU and on ``device``."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 (the stream that transforms draw from)
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def load_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Put them back; that of another kind of device is left alone."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
