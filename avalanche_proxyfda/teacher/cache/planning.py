"""Decides if a teacher gets a cache for an experience, and names the samples of batches."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from avalanche.models.utils import avalanche_forward
from torch import Tensor, nn

from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda._random import seeded
from avalanche_proxyfda.data.loaders import datasets_of, with_datasets
from avalanche_proxyfda.data.views import NumberedItems, ReplayedViews
from avalanche_proxyfda.features.passes import all_batches
from avalanche_proxyfda.teacher.cache.batch import MarkedBatch, mark, tasks_of
from avalanche_proxyfda.teacher.cache.file import CacheFile
from avalanche_proxyfda.teacher.cache.key import data_key, kernels_key
from avalanche_proxyfda.teacher.cache.names import pixel_names, sample_name
from avalanche_proxyfda.teacher.cache.settings import CacheSettings
from avalanche_proxyfda.teacher.cache.teacher_cache import TeacherCache
from avalanche_proxyfda.teacher.cached import CachedTeacher, Named
from avalanche_proxyfda.teacher.teacher import Forward, Values

Ask = Callable[[Any], Callable[[Tensor], Values]]
"""Takes the task labels of some images; returns the teacher as a function of these images."""

_PROBED = 8  # samples that the probe draws before training
_log = logging.getLogger(__name__)


class _NoCache(Exception):  # noqa: N818 (no error with "auto")
    """The reason why there can be no cache, and the remedy."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


def name_batch(teacher: CachedTeacher | None, batch: Any) -> Named | None:
    """Return the names of a mini-batch's samples for the teacher's cache; None without a cache."""
    if teacher is None or teacher.cache is None:
        return None
    images, tasks = batch[0], tasks_of(batch)
    names = batch.names_of(images) if isinstance(batch, MarkedBatch) else None
    sums = batch.sums if isinstance(batch, MarkedBatch) else None
    if names is None and images.device.type == "cpu" and not teacher.cache.is_filled:
        names = pixel_names(images, tasks)

    def forward_of(rows: Tensor) -> Forward:
        return partial(_forward, 0 if tasks is None else tasks.index_select(0, rows))

    return Named(names, sums, forward_of)


# ---- the plan ---------------------------------------------------------------------------


def plan_cache(
    teacher: CachedTeacher,
    settings: CacheSettings,
    strategy: Strategy,
    loading: Mapping[str, Any],
    *,
    ask: Ask,
    name: str,
    view_seed: int,
) -> None:
    """Decide once an experience if the teacher gets a cache, and mark the loader.

    Args:
        teacher: gets the cache.
        settings: the options of the cache.
        strategy: an Avalanche strategy at the start of an epoch.
        loading: the keyword arguments of ``strategy.train``.
        ask: asks the teacher about a few samples, without the cache.
        name: name of the plugin, for the log.
        view_seed: seed of the random streams of replayed views.

    Raises:
        ValueError: if the settings require a cache that is not possible.
    """
    if not teacher.cache_planned:
        teacher.cache_planned = True
        try:
            cache = _planned(teacher, settings, strategy, loading, ask, view_seed)
        except _NoCache as reason:
            if settings.choice != "auto":
                raise ValueError(
                    f"teacher_cache={settings.choice!r} is not possible: {reason}; {reason.remedy}"
                ) from None
            _log.info("%s: no teacher cache: %s", name, reason)
        else:
            if cache is not None:
                _log.info("%s: %s", name, cache.about)
                teacher.begin_cache(cache)
    if teacher.cache is not None:
        mark(strategy.dataloader, verify=strategy.device.type != "cpu")


def _planned(
    teacher: CachedTeacher,
    settings: CacheSettings,
    strategy: Strategy,
    loading: Mapping[str, Any],
    ask: Ask,
    view_seed: int,
) -> TeacherCache | None:
    """Return a new cache; None with ``"off"``; raise :class:`_NoCache` if it is not possible."""
    resumed = teacher.saved_cache is not None
    if settings.choice == "off":
        return None
    auto, clean = settings.choice == "auto", settings.choice == "clean"
    epochs = strategy.train_epochs
    if auto and not resumed and not settings.dir and epochs <= (settings.views or 1):
        raise _NoCache(f"no view comes again in {epochs} epochs", "")
    datasets = datasets_of(strategy.dataloader)
    if datasets is None:
        if clean or strategy.device.type != "cpu":
            raise _NoCache(
                f"a {type(strategy.dataloader).__name__} does not tell which samples a batch holds",
                "pass teacher_cache='off', or train with a DataLoader of torch or Avalanche",
            )
        datasets = [strategy.adapted_dataset]
    probe = _Probe(teacher, settings, strategy, datasets, ask)
    if not clean and not probe.same_again and not resumed:
        raise _NoCache(
            "transforms are random, so no view comes again",
            "pass cache_views=N to train on N views of each sample in turn, or 'off'",
        )
    probe.check_independent()
    capacity = probe.count * (1 if clean else settings.views or 1)
    _check_size(settings, capacity * probe.row_bytes, strategy.device)
    cache = TeacherCache(
        capacity,
        torch.float16 if settings.dtype else None,
        None if settings.dir is None or clean else probe.file_opener(capacity, view_seed),
        probe.clean_pass(loading) if clean else None,
    )
    place = f"in {settings.dir}" if settings.dir and not clean else f"on {strategy.device}"
    cache.about = (
        f"teacher cache: {capacity:,} views x {probe.row_bytes:,} B = "
        f"{_readable(capacity * probe.row_bytes)} {place}"
    )
    if clean:
        strategy.dataloader = with_datasets(strategy.dataloader, NumberedItems)
    return cache


def _check_size(settings: CacheSettings, size: int, device: torch.device) -> None:
    """Raise :class:`_NoCache` if a cache of ``size`` bytes is too large."""
    if size > settings.bytes:
        raise _NoCache(
            f"it would take {_readable(size)}, and cache_bytes={settings.bytes} allows "
            f"{_readable(settings.bytes)}",
            f"pass cache_bytes={size} or more, cache_dtype='float16', or teacher_cache='off'",
        )
    if device.type == "cuda" and settings.choice == "auto" and not settings.dir:
        free, _ = torch.cuda.mem_get_info(device)
        if size > free // 2:
            raise _NoCache(f"it would take {_readable(size)} of {_readable(free)} free", "")


def _readable(size: float) -> str:
    """Return a number of bytes with three digits and a unit."""
    step = max(0, min(4, int(math.log(max(size, 1), 1024))))
    return f"{size / 1024**step:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[step]}"


def _evaluation_view(data: Any) -> Any:
    return (data.data if isinstance(data, ReplayedViews) else data).eval()


def _forward(tasks: Any, model: nn.Module, images: Tensor) -> Any:
    return avalanche_forward(model, images, tasks)


class _Probe:
    """A few samples of the data and the teacher's values for them, before the first step.

    Args:
        teacher: computes the values.
        settings: the options of the cache; with ``"clean"`` the probe takes evaluation views.
        strategy: an Avalanche strategy at the start of an epoch.
        datasets: the data sets of the strategy's loader.
        ask: asks the teacher, see :func:`plan_cache`.

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
        self.datasets = [_evaluation_view(data) if clean else data for data in datasets]
        self.count = sum(map(len, datasets))
        numbers = sorted({k * (self.count - 1) // max(1, _PROBED - 1) for k in range(_PROBED)})
        first, second = (self._draw(numbers, seed) for seed in (0, 1))
        self.batch = strategy.adapted_dataset.collate_fn(first)
        again = strategy.adapted_dataset.collate_fn(second)[0]
        self.same_again = torch.equal(self.batch[0], again)
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
                items.append(data[number])
        return items

    def _ask(self, rows: slice) -> Values:
        """Return the teacher's values for some rows of the probe's batch."""
        device = self.strategy.device
        tasks = tasks_of(self.batch)
        labels = 0 if tasks is None else tasks[rows].to(device)
        values = self._ask_teacher(labels)(self.batch[0][rows].to(device))
        self.teacher.forget()
        return values

    def check_independent(self) -> None:
        """Refuse a teacher whose values for a sample depend on the rest of the batch."""
        count = len(self.batch[0])
        for source, value in self.values.items():
            if not isinstance(value, Tensor) or len(value) != count:
                raise _NoCache(
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
                raise _NoCache(
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
            return CacheFile.open(Path(settings.dir or "."), key, self.teacher.sources)

        return open_file

    def clean_pass(
        self, loading: Mapping[str, Any]
    ) -> Callable[[torch.dtype | None], Iterator[tuple[Sequence[bytes], Any]]]:
        """Return a function that makes one pass over the evaluation views of all samples."""

        def fill(autocast: torch.dtype | None) -> Iterator[tuple[Sequence[bytes], Any]]:
            strategy, first = self.strategy, 0
            device = strategy.device
            for data in self.datasets:
                batches = all_batches(
                    data,
                    device,
                    strategy.eval_mb_size or strategy.train_mb_size,
                    int(loading.get("num_workers", 0)),
                    strategy.adapted_dataset.collate_fn,
                    "the teacher's clean views",
                )
                for batch in batches:
                    tasks = tasks_of(batch)
                    call = partial(_forward, 0 if tasks is None else tasks.to(device))
                    values = self.teacher.live(batch[0].to(device), autocast, call)
                    count = len(batch[0])
                    yield [sample_name(first + k) for k in range(count)], values
                    first += count

        return fill
