"""Joining and leaving the torch.distributed group that torchrun describes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from avalanche_proxyfda._accelerator import (
    best_device,
    choose_device,
    collectives,
    device_count,
    module_of,
)


class EndOfAllRanks(BaseException):
    """Marks an exception that every rank of the group raises at the same point."""


@contextmanager
def process_group(device: str = "auto") -> Iterator[torch.device]:
    """Join the group of torchrun's environment variables, and leave it after the block.

    Without torchrun the block runs as a single process. A process whose block raises an error
    stays in the group and should end: leaving takes all ranks, and the others may still train.
    torchrun then stops them.

    Args:
        device: ``"cpu"``, the type of an accelerator such as ``"cuda"``, or ``"auto"``, which
            takes an accelerator if there is one.

    Yields:
        The device of this process: the accelerator with the number of the local rank, or the CPU.

    Raises:
        ValueError: for another device, or if a machine has more ranks than GPUs.

    Example:
        >>> from avalanche_proxyfda.distributed import active, process_group
        >>> with process_group("cpu") as device:  # without torchrun: one process, no group
        ...     print(device, active())
        cpu False
    """
    own = _type_of(device)
    local = os.environ.get("LOCAL_RANK")
    if local is None:
        yield own
        return
    backend = collectives(own)
    if own.type != "cpu":
        if int(local) >= device_count(own):
            raise ValueError(
                f"local rank {local} has no GPU of its own, there are {device_count(own)}: "
                "lower --nproc_per_node, or use the CPU"
            )
        own = torch.device(own.type, int(local))
        choose_device(own)
        # gloo beside nccl sends small tensors of the host without waiting for the GPU
        backend = f"cpu:gloo,{own.type}:{backend}"
    distributed.init_process_group(backend, timeout=timedelta(hours=1))
    try:
        yield own
    except EndOfAllRanks:
        leave_group()
        raise
    except SystemExit as end:
        if not end.code:  # the end of a script that has succeeded
            leave_group()
        raise
    # after any other exception nccl would wait for ranks that wait for this one
    leave_group()


def _type_of(device: str) -> torch.device:
    """Return the device without a number; raise ValueError if it has one or is unknown."""
    if device == "auto":
        return best_device()
    if device != "cpu" and (not device.isalpha() or module_of(device) is None):
        raise ValueError(
            f"device={device!r}: each rank takes its own device; choose 'auto', 'cpu', or the "
            "type of an accelerator without a number, such as 'mps'"
        )
    return torch.device(device)


_left: list[Any] = []


def leave_group() -> None:
    """Leave the group that this process is in.

    nccl waits for the other ranks to leave too. The group's object stays alive until the next
    group is left. When torch 2.4 deletes a gloo group, it waits for the group's threads and
    holds Python's lock meanwhile: a deadlock if one of these threads needs the lock to end its
    work.
    """
    _left[:] = [distributed.group.WORLD]
    distributed.destroy_process_group()
