"""A few samples, drawn before training, that show if a teacher can have a cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torch.utils.data import ConcatDataset, Subset

from avalanche_proxyfda._files import expanded
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda._random import seeded
from avalanche_proxyfda.data.keyed import KeyedSamples, Stamp
from avalanche_proxyfda.data.views import ReplayedViews
from avalanche_proxyfda.distributed.ranks import Shard, active
from avalanche_proxyfda.features.passes import all_batches
from avalanche_proxyfda.teacher.cache.batch import task_forward, tasks_of
from avalanche_proxyfda.teacher.cache.file import CacheFile
from avalanche_proxyfda.teacher.cache.key import data_key, kernels_key
from avalanche_proxyfda.teacher.cache.names import pixel_names, sample_name
from avalanche_proxyfda.teacher.cache.settings import CacheSettings
from avalanche_proxyfda.teacher.cached import CachedTeacher
from avalanche_proxyfda.teacher.teacher import Values, kept_values

Ask = Callable[[Any], Callable[[Tensor], Values]]
"""Takes the task labels of some images; returns the teacher as a function of these images."""

_PROBED = 8  # samples that the probe draws before training


class NoCache(Exception):  # noqa: N818 (no error with "auto")
    """The reason why there can be no cache, and the remedy."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


class Probe:
    """A few samples of the data and the teacher's values for them, before the first step.

    Args:
        teacher: computes the values.
        settings: the options of the cache; with ``"clean"`` the probe takes evaluation views.
        strategy: an Avalanche strategy at the start of an epoch.
        datasets: the data sets of the strategy's loader.
        ask: asks the teacher, see :data:`Ask`.

    Attributes:
        count: samples in all data sets of the loader.
        same_again: True if a second draw gives the same pixels.
        row_bytes: bytes that a cache needs for one sample.
    """

    def __init__(
        self,
        teacher: CachedTeacher,
        settings: CacheSettings,
        strategy: Strategy,
        datasets: Sequence[Any],
        ask: Ask,
    ) -> None:
        self.teacher, self.settings, self.strategy = teacher, settings, strategy
        self._ask_teacher = ask
        clean = settings.choice == "clean"
        self.datasets = _evaluation_views(datasets) if clean else list(datasets)
        self.count = sum(map(len, datasets))
        numbers = sorted({k * (self.count - 1) // max(1, _PROBED - 1) for k in range(_PROBED)})
        first, second = (self._draw(numbers, seed) for seed in (0, 1))
        self.batch, again = (
            _shown(strategy.adapted_dataset.collate_fn(items)) for items in (first, second)
        )
        self.same_again = torch.equal(self.batch[0], again[0])
        self.values = self._ask(slice(None))
        half = 2 if settings.dtype else None  # bytes of a float16
        self.row_bytes = sum(
            value[0].numel() * (half or value.element_size())
            for value in self.values.values()
            if isinstance(value, Tensor)
        )

    def _draw(self, numbers: Sequence[int], seed: int) -> list[Any]:
        """Return the samples of the given numbers, with random transforms from ``seed``."""
        items = []
        for number in numbers:
            for data in self.datasets:
                if number < len(data):
                    break
                number -= len(data)
            with seeded(seed):
                keyed = isinstance(data, KeyedSamples)  # its views draw from an epoch's streams
                items.append(data[Stamp(number, seed) if keyed else number])
        return items

    def _ask(self, rows: slice) -> Values:
        """Return the teacher's values for some rows of the probe's batch."""
        device = self.strategy.device
        tasks = tasks_of(self.batch)
        labels = 0 if tasks is None else tasks[rows].to(device)
        values = kept_values(self._ask_teacher(labels)(self.batch[0][rows].to(device)))
        self.teacher.forget()
        return values

    def check_independent(self) -> None:
        """Refuse a teacher whose values for a sample depend on the rest of the batch."""
        count = len(self.batch[0])
        for source, value in self.values.items():
            if not isinstance(value, Tensor) or len(value) != count:
                raise NoCache(
                    f"{str(source)!r} gives no tensor with a row for each sample",
                    "pass teacher_cache='off'",
                )
        if count < 2:
            return
        halves = [self._ask(slice(0, count // 2)), self._ask(slice(count // 2, count))]
        for source, value in self.values.items():
            parts = torch.cat([half[source] for half in halves])
            if parts.shape != value.shape or not torch.allclose(
                parts, value, rtol=1e-2, atol=1e-2 * float(value.abs().max())
            ):
                raise NoCache(
                    f"the value of {str(source)!r} for a sample is random, or depends on the "
                    "others of its batch",
                    "pass teacher_cache='off'",
                )

    def file_opener(
        self, capacity: int, view_seed: int
    ) -> Callable[[torch.dtype | None], CacheFile | None]:
        """Return a function that opens the file of this teacher, data and views."""
        settings = self.settings
        labels = torch.as_tensor([int(y) for y in self.strategy.adapted_dataset.targets])
        names = pixel_names(self.batch[0]) if self.same_again else []
        views = {"views": settings.views, "seed": view_seed if settings.views else 0}

        def open_file(autocast: torch.dtype | None) -> CacheFile | None:
            key = {
                "teacher": self.teacher.key(),
                "module": repr(self.teacher.module),
                "data": data_key(names, labels),
                "capacity": capacity,
                **views,
                "autocast": str(autocast),
                "dtype": settings.dtype,
                **kernels_key(self.strategy.device),
            }
            return CacheFile.open(expanded(settings.dir or "."), key, self.teacher.sources)

        return open_file

    def clean_pass(
        self, loading: Mapping[str, Any]
    ) -> Callable[[torch.dtype | None], Iterator[tuple[Sequence[bytes], Any]]]:
        """Return a function that makes one pass over the evaluation views of all samples.

        Each rank of a group reads its samples, in batches of the size of a single process, and all
        ranks get the values of all samples.
        """

        def fill(autocast: torch.dtype | None) -> Iterator[tuple[Sequence[bytes], Any]]:
            strategy, first = self.strategy, 0
            device = strategy.device
            for data in self.datasets:
                left = len(data)
                batches = all_batches(
                    _own_samples(data),
                    device,
                    strategy.eval_mb_size or strategy.train_mb_size,
                    int(loading.get("num_workers", 0)),
                    strategy.adapted_dataset.collate_fn,
                    "the teacher's clean views",
                )
                for batch in batches:
                    tasks = tasks_of(batch)
                    call = task_forward(None if tasks is None else tasks.to(device))
                    values = self.teacher.live(batch[0].to(device), autocast, call)
                    values, count = _of_all_ranks(values, len(batch[0]), left)
                    yield [sample_name(first + k) for k in range(count)], values
                    first, left = first + count, left - count

        return fill


def _shown(batch: Any) -> list[Any]:
    """Return a batch with the model's images on the CPU, which a PixelBatch makes."""
    images, *rest = batch
    return [images.to("cpu"), *rest]


def _evaluation_views(datasets: Sequence[Any]) -> list[Any]:
    """Return the evaluation views of data sets; the loader of a rank joins Avalanche's to one."""
    views: list[Any] = []
    for data in datasets:
        inner = data.data if isinstance(data, (ReplayedViews, KeyedSamples)) else data
        joined = isinstance(inner, ConcatDataset)
        views += _evaluation_views(inner.datasets) if joined else [inner.eval()]
    return views


def _own_samples(data: Any) -> Any:
    """Return every world-th sample, beginning with the rank; as many samples on every rank."""
    if not active():
        return data
    rank, world, last = distributed.get_rank(), distributed.get_world_size(), len(data) - 1
    return Subset(data, [min(k + rank, last) for k in range(0, len(data), world)])


def _of_all_ranks(values: Values, rows: int, left: int) -> tuple[Values, int]:
    """Return the values of all ranks in the order of the data, and the number of samples.

    Args:
        values: teacher's values of this rank's batch, whose samples :func:`_own_samples` gave.
        rows: samples in this batch.
        left: samples of the data that no earlier batch had.
    """
    if not active():
        return values, rows
    rank, world = distributed.get_rank(), distributed.get_world_size()
    shard = Shard(rank, world, min(left, world * rows))
    return {source: shard.join(value) for source, value in values.items()}, shard.total
