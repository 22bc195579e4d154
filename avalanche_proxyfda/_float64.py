"""Where float64 is computed, and how many rows at a time."""

from __future__ import annotations

import re
from functools import cache

import torch

WORKSPACE = 2**28
"""Bytes of temporary values on an accelerator, beside the features themselves: 256 MiB."""
CPU = torch.device("cpu")
_REFUSED = re.compile("float64|fp64|double", re.IGNORECASE)


@cache
def float64_device(device: torch.device) -> torch.device:
    """Return ``device`` if it computes in float64, and the CPU otherwise.

    Apple's devices have no float64, and neither have some of Intel's. They raise an error that
    names the dtype; every other error of the device is raised here too.

    Example:
        >>> float64_device(torch.device("cpu"))
        device(type='cpu')
    """
    try:
        torch.zeros(1, dtype=torch.float64, device=device).add(1)
    except (TypeError, RuntimeError) as error:
        if not _REFUSED.search(str(error)):
            raise
        return CPU
    return device


def widest(device: torch.device) -> torch.dtype:
    """Return float64 if ``device`` computes in it, and float32 otherwise.

    Example:
        >>> widest(torch.device("cpu"))
        torch.float64
    """
    return torch.float64 if float64_device(device) == device else torch.float32


def rows_at_once(bytes_per_row: int, workspace: int = WORKSPACE) -> int:
    """Return the number of rows whose temporary values fit into the workspace, at least 1.

    Example:
        >>> rows_at_once(2**20), rows_at_once(2**40)
        (256, 1)
    """
    return max(1, workspace // bytes_per_row)
