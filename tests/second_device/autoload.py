"""The entry point that torch loads in each process of ``python -m tests.second_device``."""

from __future__ import annotations

import torch

_kept: list[torch.library.Library] = []
"""The collectives, which torch forgets with their library."""


def load() -> None:
    """Register the second device and its collectives in this process."""
    # this module is imported while torch still is; these two need all of torch
    from tests.second_device import collectives, device

    device.register()
    _kept.append(collectives.register())
