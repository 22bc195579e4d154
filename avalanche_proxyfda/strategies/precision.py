"""The precisions that a model may be run in, and whether a device has them."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch

Precision = Literal["float32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to ``precision``; nothing at all for float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def check_precision(precision: Precision, device: torch.device) -> None:
    """Try ``precision`` on ``device``.

    Raises:
        ValueError: for an unknown precision, or one that the device does not have. torch
            itself would go on in float32 there, with a warning.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision={precision!r} is unknown; choose one of {get_args(Precision)}")
    if precision == "float32":
        return
    reason = "torch knows no autocast there"
    if torch.amp.is_autocast_available(device.type):
        reason = f"autocast does not give {DTYPES[precision]} there"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with autocast(precision, device):
                    one = torch.ones(1, 1, device=device)
                    if (one @ one).dtype == DTYPES[precision]:
                        return
        except (RuntimeError, AssertionError) as error:  # the latter: a torch without CUDA
            reason = str(error).splitlines()[0]
    raise ValueError(
        f"precision={precision!r} cannot be used on {device}: {reason}; "
        "take precision='float32', or another device"
    )
