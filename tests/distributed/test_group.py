"""Leaving the group: with all ranks together, and never after an error of one rank."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import distributed

from avalanche_proxyfda.checkpoint.signals import StopSignals
from avalanche_proxyfda.distributed import active, computed_by_main, process_group
from avalanche_proxyfda.distributed.group import leave_group
from tests.distributed.pool import Pool
from tests.plugins import toys


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def environment(rank: int, world: int, port: str) -> dict[str, str]:
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": str(world),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
    }


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """The environment of torchrun with one rank; holds an entry once the group was left."""
    for name, value in environment(0, 1, free_port()).items():
        monkeypatch.setenv(name, value)
    left: list[bool] = []
    destroy = distributed.destroy_process_group

    def destroyed() -> None:
        left.append(True)
        destroy()

    monkeypatch.setattr(distributed, "destroy_process_group", destroyed)
    yield left
    if active():
        leave_group()


def raises(error: BaseException) -> Callable[[], None]:
    def end() -> None:
        raise error

    return end


def stopped(number: int, all_ranks: bool) -> Callable[[], None]:
    """End as a checkpoint does after a signal."""

    def end() -> None:
        strategy: Any = toys.strategy(toys.Plain())
        signals = StopSignals(strategy)
        signals._number = number
        signals.leave(number if all_ranks else None)

    return end


@pytest.mark.parametrize(
    ("end", "kind", "is_left"),
    [
        (lambda: None, None, True),
        (raises(ValueError("of this rank")), ValueError, False),
        (raises(SystemExit("of this rank")), SystemExit, False),
        (raises(KeyboardInterrupt()), KeyboardInterrupt, False),
        (raises(SystemExit()), SystemExit, True),
        (raises(SystemExit(0)), SystemExit, True),
        (stopped(signal.SIGTERM, True), SystemExit, True),
        (stopped(signal.SIGINT, True), KeyboardInterrupt, True),
        (stopped(signal.SIGTERM, False), SystemExit, False),
        (stopped(signal.SIGINT, False), KeyboardInterrupt, False),
    ],
    ids=[
        *("success", "error", "exit-1", "ctrl-c", "exit", "exit-0"),
        *("all-term", "all-int", "own-term", "own-int"),
    ],
)
def test_a_rank_leaves_the_group_only_if_all_ranks_do(
    alone: list[bool], end: Callable[[], None], kind: type[BaseException] | None, is_left: bool
) -> None:
    expected = nullcontext() if kind is None else pytest.raises(kind)
    with expected, process_group("cpu"):
        end()
    assert alone == [True] * is_left and active() is not is_left


def fails_on_rank_1(rank: int, port: str) -> None:
    """Raise an error on rank 1, for which rank 0 waits in a sum."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(rank, 2, port).items():
            patch.setenv(name, value)
        destroy = distributed.destroy_process_group

        def as_nccl_does() -> None:
            distributed.recv(torch.ones(1), 1 - rank)  # wait for the other rank
            destroy()

        patch.setattr(distributed, "destroy_process_group", as_nccl_does)
        with process_group("cpu"):
            distributed.all_reduce(torch.ones(1))  # both have joined
            if rank == 1:
                raise ValueError("of this rank")
            distributed.all_reduce(torch.ones(1))


def test_an_error_ends_the_process_while_the_others_wait(forks: Any) -> None:
    port = free_port()
    ranks = [forks.Process(target=fails_on_rank_1, args=(rank, port)) for rank in range(2)]
    for process in ranks:
        process.start()
    try:
        ranks[1].join(20)
        assert ranks[1].exitcode == 1
    finally:
        for process in ranks:  # torchrun stops those that are left
            process.kill()
            process.join()


def ended_by_rank_0() -> str:
    """The error of a computation for all ranks that rank 0 was made to end."""
    try:
        computed_by_main(raises(KeyboardInterrupt()))
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def test_an_exit_of_rank_0_is_no_value_for_the_others(pool: Pool) -> None:
    interrupted, other = pool.run(ended_by_rank_0)
    assert interrupted == "KeyboardInterrupt: "
    assert (
        other == "RuntimeError: rank 0 failed in a computation for all ranks: KeyboardInterrupt: "
    )
