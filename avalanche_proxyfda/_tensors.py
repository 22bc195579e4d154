"""Rows and dtypes: checks, unit rows, full precision."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

_FLOAT32_ADDS = 2**19
"""Largest number of entries that the CPU adds in float32. The error of a norm is then below 5e-6 of
it, and that of a cosine below 2e-5; records of models with smaller tensors keep their bits."""
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


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of each tensor, [P], by few ``torch._foreach`` operations.

    Norms of half-precision tensors are float32.

    Args:
        tensors: P tensors of any shapes, on one device.

    Example:
        >>> norms([torch.full((4096, 1024), 3.0), torch.zeros(2)])
        tensor([6144.,    0.])
    """
    wide = _wide(tensors)
    return _exact_norms(wide, 2).to(wide[0].dtype)


def dots(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Return the scalar product of each pair of tensors, [P], by few ``torch._foreach`` operations.

    ``torch._foreach`` has no sum, so the function uses 1-norms: the sum of x is the 1-norm of x
    minus twice the 1-norm of the negative part of x. Products of half-precision tensors are
    float32.

    Args:
        left: P tensors of any shapes, on one device.
        right: P tensors of the same shapes.

    Example:
        >>> dots([torch.tensor([1.0, -2.0])], [torch.tensor([3.0, 4.0])])
        tensor([-5.])
    """
    products = torch._foreach_mul(_wide(left), _wide(right))
    total = _exact_norms(products, 1)
    torch._foreach_clamp_max_(products, 0.0)
    return (total - 2 * _exact_norms(products, 1)).to(products[0].dtype)


def _wide(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return half-precision tensors in float32, since their products would lose digits."""
    return [t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in tensors]


def _exact_norms(tensors: Sequence[Tensor], order: int) -> Tensor:
    """Return the norms of P tensors, [P]; in float64 if a large one is on the CPU.

    On the CPU, torch adds the entries of a float32 norm one after another. The norm of four
    million random entries is then too small by 7e-5 of itself, and the difference of two such
    norms can have the wrong sign. Accelerators add in blocks.
    """
    large = max(tensor.numel() for tensor in tensors) > _FLOAT32_ADDS
    sums = torch.float64 if large and tensors[0].device.type == "cpu" else None
    return torch.stack(list(torch._foreach_norm(list(tensors), order, sums)))
