"""Counts the bytes that a loss saves for backward, and the peak of its memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from avalanche_proxyfda.losses import chunks


@contextmanager
def _recorded_checkpoints(record: Callable[[Tensor], object]) -> Iterator[None]:
    """Record the arguments of activation checkpoints too, which live until backward."""
    plain = chunks.checkpoint

    def counting(function: object, *args: object, **kwargs: object) -> object:
        for value in args:
            if isinstance(value, Tensor):
                record(value)
        return plain(function, *args, **kwargs)

    chunks.checkpoint = counting  # type: ignore[assignment]
    try:
        yield
    finally:
        chunks.checkpoint = plain


def saved_bytes(compute: Callable[[], Tensor], given: tuple[Tensor, ...] = ()) -> int:
    """Count the bytes of the distinct storages that ``compute()`` saves for backward.

    Args:
        compute: computes a loss that requires gradients.
        given: tensors that exist before; their storages do not count.
    """
    saved: dict[int, Tensor] = {}
    known = {t.untyped_storage()._cdata for t in given}

    def record(tensor: Tensor) -> Tensor:
        pointer = tensor.untyped_storage()._cdata
        if pointer not in known:
            saved[pointer] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(record, lambda t: t),
        _recorded_checkpoints(record),
    ):
        loss = compute()
    total = sum(t.untyped_storage().nbytes() for t in saved.values())
    assert loss.requires_grad
    return total


class _Live(TorchDispatchMode):
    """Adds the storages that operations allocate, and subtracts them when they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if _is(t)}
        out = func(*args, **(kwargs or {}))
        for tensor in filter(_is, tree_leaves(out)):
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.known and key not in before:
                self.known[key] = storage.nbytes()
                self.now += self.known[key]
                weakref.finalize(storage, self._gone, key)
        self.peak = max(self.peak, self.now)
        return out

    def _gone(self, key: int) -> None:
        self.now -= self.known.pop(key)


def _is(value: object) -> bool:
    return isinstance(value, Tensor)


def peak_bytes(compute: Callable[[], Tensor]) -> int:
    """Count the most bytes of tensors that ``compute()`` and its backward hold at a time.

    The workspace within an operation does not count.
    """
    with _Live() as live:
        compute().backward()
    return live.peak
