"""Precisions of a model's forward, and a check that a device supports them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import nn

from avalanche_proxyfda.strategies.task_logits import logits_in_default_dtype

Precision = Literal["float32", "bf16", "fp16"]
"""Dtype of the forwards: all in float32, or under autocast in bfloat16 or float16."""
DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(
    precision: Precision, device: torch.device, model: nn.Module | None = None
) -> AbstractContextManager[Any]:
    """Return a context that autocasts to ``precision`` on ``device``; float32 changes nothing.

    Args:
        precision: ``"float32"``, ``"bf16"`` or ``"fp16"``.
        device: device of the forward.
        model: model whose forward runs in the context, which may have Avalanche's task heads;
            None for other computations.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.strategies import autocast
        >>> with autocast("bf16", torch.device("cpu")):
        ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
        torch.bfloat16
    """
    if precision == "float32":
        return nullcontext()
    return autocast_to(DTYPES[precision], device, model)


@contextmanager
def autocast_to(
    dtype: torch.dtype, device: torch.device, model: nn.Module | None = None
) -> Iterator[None]:
    """Autocast to ``dtype`` inside the block; see :func:`autocast`."""
    heads = nullcontext() if model is None else logits_in_default_dtype(model)
    with torch.autocast(device.type, dtype=dtype), heads:
        yield


def autocast_dtype(strategy: Any) -> torch.dtype | None:
    """Return the dtype of a strategy's autocast; None for float32 and for other strategies."""
    return DTYPES.get(getattr(strategy, "precision", "float32"))


def check_precision(precision: Precision, device: torch.device) -> None:
    """Check that ``device`` supports ``precision``, with a small matrix product.

    torch itself only warns about an unsupported precision and computes in float32.

    Raises:
        ValueError: for an unknown precision, or one that the device does not support.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision={precision!r} is unknown; choose one of {get_args(Precision)}")
    if precision == "float32":
        return
    reason = "torch has no autocast there"
    if torch.amp.is_autocast_available(device.type):
        reason = f"autocast does not give {DTYPES[precision]} there"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with autocast(precision, device):
                    one = torch.ones(1, 1, device=device)
                    if (one @ one).dtype == DTYPES[precision]:
                        return
        except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
            reason = str(error).splitlines()[0]
    raise ValueError(
        f"precision={precision!r} cannot be used on {device}: {reason}; "
        "take precision='float32', or another device"
    )
