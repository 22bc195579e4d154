"""A rank without memory for its cache beside ranks with one: each rank's cache is its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import distributed

from avalanche_proxyfda.teacher.cache import planning, store
from tests.distributed.pool import Pool
from tests.distributed.work import learn
from tests.methods import toy_plugin


def full(like: Any, capacity: int) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory.")


def trained(choice: Any, rank: int, when: str) -> tuple[int, dict[str, Any]]:
    """Train with online mining; one rank has no memory. Return the hits and the results."""
    made: list[Any] = []

    def make() -> Any:
        made.append(toy_plugin("fda-online", teacher_cache=choice, start="siglip"))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        if distributed.is_initialized() and distributed.get_rank() == rank:
            if when == "planned":
                patch.setattr(planning, "free_memory", lambda device: 0)
            else:
                patch.setattr(store, "_in_memory", full)
        results = learn("plain", extra=(make,), train_epochs=3)
    return made[0].cache_hits, results


@pytest.mark.parametrize("when", ["planned", "in the first step"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_may_go_without_a_cache(pool: Pool, rank: int, when: str) -> None:
    _, single = trained("off", -1, when)
    ends = pool.run(trained, "auto", rank, when)
    assert [hits > 0 for hits, _ in ends] == [rank == 1, rank == 0]
    for _, results in ends:
        for name, value in single["weights"].items():
            torch.testing.assert_close(results["weights"][name], value, rtol=1e-9, atol=1e-9)
