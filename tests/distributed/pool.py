"""Processes that wait for work, and form a gloo group of any size for each piece of it."""

from __future__ import annotations

import io
import multiprocessing as mp
import traceback
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any


def _serve(pipe: Any, rank: int) -> None:
    import torch
    from torch import distributed

    from avalanche_proxyfda.distributed.group import leave_group

    torch.set_num_threads(1)
    mp.set_start_method("fork", force=True)  # for workers of loaders; spawned ones import all anew
    while True:
        try:
            work, ranks, store, given, options = pipe.recv()
        except EOFError:  # the tests are over
            return
        content = io.BytesIO()
        try:
            distributed.init_process_group(
                "gloo",
                init_method=f"file://{store}",
                rank=rank,
                world_size=ranks,
                timeout=timedelta(seconds=60),
            )
            try:
                torch.save((True, work(*given, **options)), content)
            finally:
                leave_group()
        except Exception as error:
            content = io.BytesIO()
            torch.save(
                (False, (f"{type(error).__name__}: {error}", traceback.format_exc())), content
            )
        pipe.send(content.getvalue())


class RankError(Exception):
    """The traceback of a rank, as text."""


class Pool:
    """Up to ``most`` ranks on this machine.

    Args:
        most: processes.
        folder: holds the files by which groups meet.
        context: starts the processes.
    """

    def __init__(self, most: int, folder: Path, context: Any) -> None:
        self._folder = folder
        self._ranks = []
        for rank in range(most):
            here, there = context.Pipe()
            process = context.Process(
                target=_serve, args=(there, rank)
            )  # daemons may not have children, and loaders have workers
            process.start()
            self._ranks.append((process, here))

    def run(
        self, work: Callable[..., Any], *given: Any, ranks: int = 2, **options: Any
    ) -> list[Any]:
        """Run ``work``, a function of a module, on each of ``ranks`` processes; return the answers.

        Raises:
            RankError: with the traceback of a rank that failed.
        """
        store = self._folder / uuid.uuid4().hex
        for _, pipe in self._ranks[:ranks]:
            pipe.send((work, ranks, store, given, options))
        answers = [self._answer(*rank) for rank in self._ranks[:ranks]]
        for good, answer in answers:
            if not good:
                raise RankError("\n".join(answer))
        return [answer for _, answer in answers]

    @staticmethod
    def _answer(process: Any, pipe: Any) -> tuple[bool, Any]:
        import torch

        if not pipe.poll(120):
            raise RankError(f"a rank did not answer; it is alive: {process.is_alive()}")
        answer: tuple[bool, Any] = torch.load(io.BytesIO(pipe.recv()), weights_only=False)
        return answer

    def close(self) -> None:
        """End the processes."""
        for process, _ in self._ranks:
            process.kill()  # they wait for work and hold nothing
            process.join()
