"""Rows and dtypes: checks, unit rows, full precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

_TINY = 1e-30  # rows whose largest entry is below this count as zero rows


def check_matrices(student: Tensor, teacher: Tensor, same_width: bool = False) -> None:
    """Raise TypeError or ValueError unless both are float [B, D] with the same B (and D)."""
    for name, value in (("student", student), ("teacher", teacher)):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor [B, D]")
        if value.ndim != 2:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}; expected [B, D]: pool tokens or "
                "feature maps to one vector a sample first"
            )
    if len(student) != len(teacher):
        raise ValueError(
            f"student has {len(student)} rows, teacher has {len(teacher)}: both must hold "
            "the features of the same batch"
        )
    if same_width and student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"student has {student.shape[1]} columns, teacher has {teacher.shape[1]}: both must "
            "have the same width"
        )


def without_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """Return a context without autocast on the tensor's device, if the device has autocast."""
    kind = tensor.device.type
    if torch.compiler.is_compiling() or torch.amp.is_autocast_available(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def full_precision(features: Tensor) -> Tensor:
    """Return float64 ``features`` as they are, and all others in float32."""
    return features if features.dtype == torch.float64 else features.float()


def kept(features: Tensor) -> Tensor:
    """Return a copy without graph, which lasts longer than the next forward.

    ``torch.compile(mode="reduce-overhead")`` runs CUDA graphs. A graph writes the results of
    each forward to the same memory.

    Example:
        >>> memory = torch.ones(2)
        >>> copied = kept(memory[:1])
        >>> _ = memory.zero_()
        >>> copied
        tensor([1.])
    """
    return features.detach().clone()


def in_one_precision(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in float32, or in float64 for a float64 student; the teacher without its graph.

    Example:
        >>> rows = torch.ones(1, dtype=torch.float16, requires_grad=True)
        >>> in_one_precision(rows, rows.double())
        (tensor([1.], grad_fn=<ToCopyBackward0>), tensor([1.]))
    """
    rows = full_precision(student)
    return rows, teacher.detach().to(rows.dtype)


def unit_rows(features: Tensor) -> Tensor:
    """L2-normalise the last axis; zero rows stay zero and get a zero gradient.

    The function divides each row by its largest entry and normalises the quotient, so neither
    huge nor tiny rows overflow. A direction does not depend on a positive factor, so the
    gradient stays exact with the factor as a constant.

    Args:
        features: [..., D], float32 or float64.

    Returns:
        [..., D], rows of norm 1, or 0 for zero rows.
    """
    largest = features.detach().abs().amax(dim=-1, keepdim=True)
    factor = torch.where(largest > _TINY, largest, torch.inf)
    scaled = features / factor
    # a row that is not zero has a norm of at least 1 here, so the clamp acts on zero rows only
    norm: Tensor = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return scaled / norm.clamp_min(0.5)
