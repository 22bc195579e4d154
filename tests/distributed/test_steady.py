"""Steady loaders on ranks: the next epoch begins early, with the batches of a single process."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin

from avalanche_proxyfda.data.steady import SteadyLoader
from avalanche_proxyfda.distributed import DistributedTraining
from avalanche_proxyfda.pixels import InputPipeline
from tests.checkpoint.training import BrokenOffError, build, train
from tests.distributed.pool import Pool
from tests.distributed.test_checkpoints import BreakOffOnRanks, equal
from tests.distributed.test_training import alike
from tests.distributed.work import learn
from tests.methods import toy_plugins
from tests.plugins.toys import Plain, classic


class Ahead(SupervisedPlugin[Any], supports_distributed=True):
    """Notes after each step which epochs the loader has begun, and the samples left out."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[list[int]] = []
        self.iterators, self._latest = 0, None

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        loader = strategy.dataloader
        assert isinstance(loader, SteadyLoader) and loader._running_of is not None
        self.begun.append(list(loader._running_of[0].totals))
        if loader._batches is not self._latest:  # held, so that no later one has its address
            self.iterators, self._latest = self.iterators + 1, loader._batches


def steady(method: str, workers: int = 1, **options: Any) -> dict[str, Any]:
    """Train three epochs by steady loaders."""
    ahead = Ahead()
    extra = (partial(InputPipeline, 1), lambda: ahead)
    loading = {"num_workers": workers}
    found = learn(method, extra=extra, loading=loading, train_epochs=3, **options)
    return {**found, "begun": ahead.begun, "iterators": ahead.iterators}


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("method", ["plain", "fda", "fda-online"])
def test_ranks_begin_the_next_epoch_early(pool: Pool, method: str, ranks: int) -> None:
    """Batches of 29, 29 and 2 rows without hard classes: the third rank has none of the last."""
    single = steady(method, plain=True, train_mb_size=29)
    found = pool.run(steady, method, ranks=ranks, train_mb_size=29)
    alike(found, single)
    steps = len(single["losses"]) // 6
    assert steps > 1
    for number, rank in enumerate(found):
        assert rank["iterators"] == 2  # one an experience
        ends = rank["begun"][steps - 1 :: steps]
        assert ends == [[0, 1], [0, 1, 2], [0, 1, 2]] * 2
        if method != "fda-online":  # which chooses rows of several batches
            for epoch, images in zip(rank["images"], single["images"], strict=True):
                for own, whole in zip(epoch, images, strict=True):
                    rows = whole[number::ranks] if number < len(whole) else whole[-1:]
                    assert torch.equal(own, rows)


def resumable(folder: Path, method: dict[str, Any], step: int | None) -> dict[str, Any]:
    """Train two experiences by steady loaders, or break off before a step."""
    plugins = [DistributedTraining(), InputPipeline(1), *toy_plugins(method)]
    made = build(Plain, *plugins, BreakOffOnRanks(step), train_epochs=3)
    try:
        train(made, classic(2), folder, every=1, num_workers=1)
    except BrokenOffError:
        return {"steps": made.clock.train_iterations}
    return {"weights": made.model.state_dict(), "draw": torch.rand(2)}


@pytest.mark.parametrize("method", [{}, {"fda": {}}], ids=["plain", "fda"])
def test_a_training_with_steady_loaders_resumes(
    pool: Pool, tmp_path: Path, method: dict[str, Any]
) -> None:
    whole = pool.run(resumable, tmp_path / "whole", method, None)
    broken = pool.run(resumable, tmp_path / "broken", method, 13)  # in the second experience
    assert [rank["steps"] for rank in broken] == [13, 13]
    assert equal(pool.run(resumable, tmp_path / "broken", method, None), whole)
