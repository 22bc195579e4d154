"""Two ranks on the second device, this process and another one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from avalanche_proxyfda.distributed.group import process_group
from tests.second_device import rank


@pytest.mark.parametrize("work", ["work", "without_gloo"])
def test_two_ranks_compute_as_one_process(
    work: str, second: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # each rank has the first device of its own machine, as it were
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    other = subprocess.Popen(
        [sys.executable, "-m", "tests.second_device.rank", work],
        env={**os.environ, **shared, "RANK": "1"},
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    for name, value in {**shared, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    try:
        getattr(rank, work)()
    finally:
        _, errors = other.communicate(timeout=60)
    assert other.returncode == 0, errors


def test_a_rank_needs_a_device_of_its_own(
    second: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with (
        pytest.raises(ValueError, match="local rank 1 has no GPU of its own, there are 1"),
        process_group(second.type),
    ):
        pass
