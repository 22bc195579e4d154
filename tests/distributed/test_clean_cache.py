"""The pass of a clean teacher's cache: ranks share its forwards, and all get every value."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.training.plugins import ReplayPlugin, SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda import RKDPlugin
from avalanche_proxyfda.distributed import DistributedTraining
from tests.distributed.pool import Pool
from tests.distributed.work import Static
from tests.plugins.toys import classic, strategy

PROBES = 3  # forwards of the probe before the pass: a batch, and its halves


class Filled(SupervisedPlugin[Any], supports_distributed=True):
    """Notes the cache of each experience after its first step, and the forwards that filled it."""

    def __init__(self, own: RKDPlugin) -> None:
        super().__init__()
        self.own = own
        self.found: list[tuple[int, list[bytes], Tensor]] = []

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_exp_iterations == 0:
            teacher: Any = self.own.teacher
            (rows,) = teacher.cache.store.rows.values()
            self.found.append((teacher.forwards, list(teacher.cache.store.slots), rows.clone()))


def filled(count: int, batch: int, replay: bool = False) -> list[tuple[int, list[bytes], Tensor]]:
    """Train on two experiences; return forwards, names and rows of each experience's cache."""
    torch.manual_seed(0)
    own = RKDPlugin(teacher_cache="clean")
    watch = Filled(own)
    plugins = [DistributedTraining(), own, *([ReplayPlugin(mem_size=21)] * replay), watch]
    made = strategy(Static(), *plugins, eval_mb_size=batch)
    for experience in classic(count=count).train_stream:
        made.train(experience, eval_streams=[])
    return watch.found


@pytest.mark.parametrize(
    ("ranks", "count", "batch", "replay", "forwards"),
    [(2, 120, 30, False, (2, 1)), (2, 124, 13, False, (5, 3)), (3, 124, 13, True, (5, 2))],
    ids=["whole batches", "rest", "two data sets"],
)
def test_ranks_share_the_forwards_of_a_clean_cache(
    pool: Pool, ranks: int, count: int, batch: int, replay: bool, forwards: tuple[int, int]
) -> None:
    single = filled(count, batch, replay)
    assert len(single[1][1]) == count // 2 - (count == 124) + 21 * replay
    first: list[tuple[int, list[bytes], Tensor]] = []
    for found in pool.run(filled, count, batch, replay, ranks=ranks):
        assert (single[0][0] - PROBES, found[0][0] - PROBES) == forwards
        first = first or found
        for (_, names, rows), (_, expected, values), (_, _, of_rank_0) in zip(
            found, single, first, strict=True
        ):
            assert names == expected and torch.equal(rows, of_rank_0)
            torch.testing.assert_close(rows, values, rtol=1e-9, atol=1e-9)
        if batch == 30:  # all forwards have the rows of a single process's forward
            assert torch.equal(found[0][2], single[0][2])
