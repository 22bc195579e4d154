"""Resumes in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from avalanche_proxyfda._protocols import Loader, Strategy
from avalanche_proxyfda._random import RandomState
from avalanche_proxyfda.checkpoint.strategy import load_strategy_state
from avalanche_proxyfda.strategies.budget import batches_of_epoch


def worker_stream(loader: Loader) -> Any:
    """Return the state of the generator that seeds a loader's workers; None without one."""
    generator = getattr(loader, "generator", None)
    return None if generator is None else generator.get_state()


class RestOfEpoch:
    """The remaining batches of an epoch; the first one comes after the saved state is loaded.

    The earlier batches are drawn again and dropped, so that transforms and samplers draw the
    same random numbers as before. The batches of :class:`HardClassBatchSampler` are skipped
    without loading them, unless worker processes must advance their random streams.

    Args:
        strategy: an Avalanche strategy at the start of the epoch.
        loader: the loader of the epoch.
        state: a checkpoint's state that was taken inside this epoch.
    """

    def __init__(self, strategy: Strategy, loader: Loader, state: dict[str, Any]) -> None:
        self._strategy, self._loader, self._state = strategy, loader, state

    @property
    def whole(self) -> Loader:
        """The loader of the whole epoch."""
        return self._loader

    def __len__(self) -> int:
        return len(self._loader) - int(self._state["inside"]["batches"])

    def __iter__(self) -> Iterator[Any]:
        strategy, loader, inside = self._strategy, self._loader, self._state["inside"]
        strategy.dataloader = loader
        place, count = inside["place"], int(inside["batches"])
        left = max(0, batches_of_epoch(strategy, loader) - count)  # no batch is drawn beyond
        RandomState(strategy.device, place["random"]).restore()
        if place["workers"] is not None:
            generator: Any = getattr(loader, "generator", None)
            generator.set_state(place["workers"])
        if count == 0:  # the saved random streams are those of the epoch's start
            load_strategy_state(strategy, self._state["strategy"], again=True)
            yield from loader
            return
        sampler: Any = getattr(loader, "batch_sampler", None)
        if hasattr(sampler, "begin_at"):
            keyed = getattr(loader, "keyed", False)
            skipped = count if getattr(loader, "num_workers", 1) == 0 and not keyed else 0
            sampler.begin_at(skipped)
            count -= skipped
        if getattr(loader, "keyed", False):  # a SteadyLoader loads no earlier batch again
            loader.begin_at(int(inside["batches"]))  # type: ignore[attr-defined]
            count = 0
        batches = iter(loader)
        for _ in range(count):
            with suppress(StopIteration):
                next(batches)
        load_strategy_state(strategy, self._state["strategy"], again=True)
        # a whole epoch is read to its end, where samplers count what they have left out
        yield from batches if left == len(self) else islice(batches, left)
