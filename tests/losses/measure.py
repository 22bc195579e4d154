"""Counts bytes that a loss keeps for backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def _recorded_checkpoints(record: Callable[[Tensor], object]) -> Iterator[None]:
    """Also count what activation checkpoints hold: their arguments, live until backward."""
    from avalanche_proxyfda.losses import chunks

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
    """Bytes of distinct storages kept between ``compute()`` and its backward.

    Storages of ``given`` (the inputs, which exist anyway) do not count.
    """
    kept: dict[int, Tensor] = {}
    known = {t.untyped_storage().data_ptr() for t in given}

    def record(tensor: Tensor) -> Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in known:
            kept[pointer] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(record, lambda t: t),
        _recorded_checkpoints(record),
    ):
        loss = compute()
    total = sum(t.untyped_storage().nbytes() for t in kept.values())
    loss.backward()
    return total
