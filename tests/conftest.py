"""One thread a process, and processes that start quickly: copies of one that has imported all."""

from __future__ import annotations

import multiprocessing as mp
import os
from multiprocessing import forkserver
from types import SimpleNamespace
from typing import Any

import pytest

# tests that compare bits of two processes need as many threads in both, and small models need one
os.environ.setdefault("OMP_NUM_THREADS", "1")

PRELOADED = ["benchmarks.execution.executor", "timm", "open_clip"]


@pytest.fixture(scope="session")
def forks() -> Any:
    """A context of multiprocessing whose processes begin after all imports, in half a second."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with pytest.MonkeyPatch.context() as patch:  # its processes have the environment of now
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("TQDM_DISABLE", "1")
        forkserver.ensure_running()
    return context


@pytest.fixture
def quick_processes(forks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the local executor are in such processes, and not in new ones."""
    from benchmarks.execution import local

    monkeypatch.setattr(local, "mp", SimpleNamespace(get_context=lambda method: forks))
