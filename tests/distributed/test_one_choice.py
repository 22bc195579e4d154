"""Ranks that would choose other classes train on the choice of rank 0."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import distributed

from avalanche_proxyfda.plugins.base import online
from tests.distributed.pool import Pool
from tests.distributed.work import learn
from tests.methods import toy_plugin


def last_classes(students: Any, *args: Any, first: int, count: int, **options: Any) -> list[int]:
    """Choose as a rank whose device rounds otherwise might."""
    return [first, *range(len(students) - 1, len(students) - count, -1)]


def trained(other: bool) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        if other and distributed.is_initialized() and distributed.get_rank() == 1:
            patch.setattr(online, "hardest_classes", last_classes)
        return learn("plain", extra=(lambda: toy_plugin("fda-online", start="siglip"),))


def test_all_ranks_take_the_classes_of_rank_0(pool: Pool) -> None:
    single = trained(False)
    for results in pool.run(trained, True):
        for name, value in single["weights"].items():
            torch.testing.assert_close(results["weights"][name], value, rtol=1e-9, atol=1e-9)
