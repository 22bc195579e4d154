"""One thread a process, and processes that start quickly: copies of one that has imported all."""

from __future__ import annotations

import gc
import multiprocessing as mp
import os
from collections.abc import Iterator
from multiprocessing import forkserver
from types import SimpleNamespace
from typing import Any

import pytest

# tests that compare bits of two processes need as many threads in both, and small models need one
os.environ.setdefault("OMP_NUM_THREADS", "1")

LONG = frozenset(
    f"tests/{name}.py"
    for name in (
        "benchmarks/commands/test_demo",
        "benchmarks/commands/test_run",
        "benchmarks/execution/test_ray",
        "benchmarks/execution/test_stopped_command",
        "benchmarks/experiment/test_numerics",
        "distributed/test_torchrun",
        "house/test_extending",
        "second_device/test_second_device",
        "test_readme",
    )
)
"""Files with a few long tests, most of which wait for processes."""
PRELOADED = ["benchmarks.execution.executor", "timm", "open_clip"]


def pytest_configure(config: pytest.Config) -> None:
    """Keep the order of the collection; pytest-xdist would end with the files of few tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files, so that no worker waits for them at the end."""
    items.sort(key=lambda item: item.location[0] not in LONG)


def pytest_collection_finish() -> None:
    """Keep modules and tests out of garbage collections, which are many and would read them all."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Files are not flushed to the disk: no test cuts the power, and thousands write files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


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
