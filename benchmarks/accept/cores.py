"""All cores for a reference on the CPU, whatever ``OMP_NUM_THREADS`` says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def all_cores() -> Iterator[None]:
    """Let torch compute on all cores of this process within the block.

    A scheduler often sets one thread a process. The largest references of the acceptance take
    minutes on one thread, while the accelerator waits.
    """
    threads = torch.get_num_threads()
    known = getattr(os, "sched_getaffinity", None)  # absent on macOS
    torch.set_num_threads(len(known(0)) if known else os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
