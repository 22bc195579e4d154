"""Runs that end themselves with SIGKILL at a chosen moment, in processes of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOMENTS = {
    "step": 10,
    "evaluation": 3,
    "accuracy": 5,
    "panel": 1,
    "half a file": 7,
    "renames": 13,
    "saved": 7,
}
"""And how often each comes in an undisturbed run of test_kill.py."""


def kill_at(moment: str, count: int) -> None:
    """Arrange that this process dies the ``count``-th time that ``moment`` comes."""
    from avalanche.training import Naive

    from avalanche_proxyfda import _files
    from avalanche_proxyfda.checkpoint import files
    from benchmarks.experiment import run as run_module
    from benchmarks.experiment.training import StepTimer

    left = [count]

    def before(owner: Any, name: str, act: Callable[..., None] = lambda *_: None) -> None:
        original = getattr(owner, name)

        def replaced(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                act(*args)
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(owner, name, replaced)

    def half(tensors: Any, name: str, *_: Any) -> None:
        original_save(tensors, name, metadata={"format": "1"})
        os.truncate(name, os.path.getsize(name) // 2)

    original_save = files.save_file
    if moment == "step":
        before(StepTimer, "after_forward")
    elif moment == "evaluation":
        before(Naive, "_after_eval_iteration")
    elif moment == "accuracy":
        before(run_module, "accuracy")
    elif moment == "panel":
        before(run_module, "measure_panel")
    elif moment == "half a file":
        before(files, "save_file", half)
    elif moment == "renames":  # half of them between the two
        before(os, "replace")
    else:
        before(_files, "sync_folder")


def run_once(content: dict[str, Any], folder: str, moment: str, count: int) -> None:
    """One life of a run; its record, if it comes to that, is left in ``folder``."""
    import torch

    from benchmarks._quiet import quiet
    from benchmarks.config import read
    from benchmarks.execution.executor import execute
    from benchmarks.execution.job import Job
    from benchmarks.execution.settle import Settler

    quiet()
    torch.set_num_threads(1)
    job = Job(read(content), Path(folder))
    if moment:
        kill_at(moment, count)
    settle = Settler()
    settle(job, execute(job))
    settle.finish()
