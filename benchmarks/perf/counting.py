"""Counts the operations that reach torch's kernels, and those that make the host wait.

On the meta device the counts need no accelerator: shapes decide them, and values are absent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from avalanche_proxyfda.losses import chunks

VIEWS = (
    "alias",
    "as_strided",
    "detach",
    "expand",
    "permute",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "t",
    "transpose",
    "unbind",
    "unsqueeze",
    "_unsafe_view",
    "view",
)
"""Operations that change shapes and strides alone, so they launch nothing."""

_WAITS = (
    "_local_scalar_dense",  # the host reads a value
    "equal",
    "is_nonzero",
    "bincount",  # the host reads the size of the result
    "masked_select",
    "nonzero",
    "_unique",
    "_unique2",
    "unique_consecutive",
    "unique_dim",
    "lift_fresh",  # torch.tensor(numbers): a copy from pageable memory
    "_linalg_eigh",  # decompositions, whose status the host reads
    "_linalg_solve_ex",
    "_linalg_svd",
    "linalg_qr",
)
_INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_")
_COPIES = ("_to_copy", "copy_", "_copy_from")


class Operations(TorchDispatchMode):
    """Counts operations within the block.

    A synchronisation is an operation for which the host waits on an accelerator. The counter
    knows reads of values, shapes that depend on values, masks as indices, numbers that Python
    hands to torch, and copies between devices without ``non_blocking``. Decompositions of
    matrices count as one kind, because their kernels on CUDA wait too.

    Attributes:
        names: all operations by name.
        syncs: synchronisations by the name of the operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.syncs: Counter[str] = Counter()

    @property
    def launches(self) -> int:
        """Number of operations other than views; each launches at least one kernel."""
        return self.names.total() - self.views

    @property
    def views(self) -> int:
        """Number of operations that launch nothing."""
        return sum(self.names[name] for name in VIEWS)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.name().split("::")[1].split(".")[0]
        out = func(*args, **kwargs)
        self.names[name] += 1
        if _waits(name, args, kwargs, out):
            self.syncs[name] += 1
        return out


def _waits(name: str, args: Any, kwargs: Any, out: Any) -> bool:
    if name in _INDEXED:
        return any(_is_mask(index) for index in tree_leaves(args[1]))
    if name in _COPIES:
        blocks = not (kwargs.get("non_blocking") or args[2:3] == (True,))
        devices = {t.device for t in tree_leaves((args, out)) if isinstance(t, Tensor)}
        return blocks and len(devices) > 1
    return name in _WAITS


def _is_mask(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype in (torch.bool, torch.uint8)


@contextmanager
def memory_of(size: int) -> Iterator[None]:
    """Let the losses treat every device as an accelerator of ``size`` bytes within the block."""
    plain = chunks.total_memory
    chunks.total_memory = lambda device: size
    try:
        yield
    finally:
        chunks.total_memory = plain
