"""Going on in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from avalanche_proxyfda.saving.strategy import load_strategy_state
from avalanche_proxyfda.saving.streams import load_random_state


def worker_stream(loader: Any) -> Any:
    """State of the generator that a loader's worker processes are seeded from; None without one."""
    own = getattr(loader, "generator", None)
    return None if own is None else own.get_state()


class RestOfEpoch:
    """What is left of an epoch's batches; with the first of them the saved state is back.

    The batches before are drawn again and dropped, so that whatever draws random numbers on
    the way does it again; batches of our sampler are left out unloaded, where no worker
    process has a random stream of its own to be brought forward.
    """

    def __init__(self, strategy: Any, loader: Any, state: dict[str, Any]) -> None:
        self._strategy, self._loader, self._state = strategy, loader, state

    def __len__(self) -> int:
        return len(self._loader) - int(self._state["inside"]["batches"])

    def __iter__(self) -> Iterator[Any]:
        strategy, loader, inside = self._strategy, self._loader, self._state["inside"]
        strategy.dataloader = loader
        place, count = inside["place"], int(inside["batches"])
        load_random_state(place["random"], strategy.device)
        if place["workers"] is not None:
            loader.generator.set_state(place["workers"])
        sampler: Any = getattr(loader, "batch_sampler", None)
        if hasattr(sampler, "begin_at"):
            left_out = count if getattr(loader, "num_workers", 1) == 0 else 0
            sampler.begin_at(left_out)
            count -= left_out
        batches = iter(loader)
        for _ in range(count):
            with suppress(StopIteration):
                next(batches)
        load_strategy_state(strategy, self._state["strategy"], again=True)
        yield from batches
