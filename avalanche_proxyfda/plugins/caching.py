"""Whether a teacher gets a cache for an experience, and how batches tell it their samples."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from avalanche.models.utils import avalanche_forward
from torch import Tensor, nn

from avalanche_proxyfda.cache.batch import MarkedBatch, tasks_of
from avalanche_proxyfda.cache.file import CacheFile
from avalanche_proxyfda.cache.key import data_key, kernels_key
from avalanche_proxyfda.cache.names import pixel_names, sample_name
from avalanche_proxyfda.cache.settings import CacheSettings
from avalanche_proxyfda.cache.teacher_cache import TeacherCache
from avalanche_proxyfda.cache.views import NumberedItems, ReplayedViews, seeded
from avalanche_proxyfda.passes import all_batches
from avalanche_proxyfda.plugins.loaders import datasets_of, mark, with_datasets
from avalanche_proxyfda.rng import mixed_seed
from avalanche_proxyfda.teacher import FeatureTeacher, Forward, Named

if TYPE_CHECKING:
    from avalanche_proxyfda.plugins.base import FeaturePlugin

_PROBED = 8  # samples that are looked at before training
_log = logging.getLogger(__name__)


class _NoCache(Exception):  # noqa: N818 (with "auto" nothing is wrong)
    """Why there can be no cache, and what to do about it."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.remedy = remedy


# ---- batches ----------------------------------------------------------------------------


def replay_views(strategy: Any, views: int, seed: int, epoch: int) -> None:
    """Have the strategy's loader give ``views`` views of each sample in turn.

    Raises:
        ValueError: for a loader whose data cannot be reached.
    """
    datasets = datasets_of(strategy.dataloader)
    if datasets is None:
        raise ValueError(
            f"cache_views={views} cannot reach into a {type(strategy.dataloader).__name__}: leave "
            "it out, or train with a DataLoader of torch or Avalanche"
        )
    inner = [d.data if isinstance(d, NumberedItems) else d for d in datasets]
    if not isinstance(inner[0], ReplayedViews):
        own = mixed_seed("experience", seed, strategy.clock.train_exp_counter)

        def wrap(data: Any, first: int) -> Any:
            return ReplayedViews(data, views, own, first)

        strategy.dataloader = with_datasets(strategy.dataloader, wrap)
        inner = datasets_of(strategy.dataloader) or []
    for data in inner:
        data.set_epoch(epoch)


def name_batch(teacher: FeatureTeacher | None, batch: Any) -> Named | None:
    """What the teacher's cache needs to know of a mini-batch; None without a cache."""
    if teacher is None or teacher.cache is None:
        return None
    images, tasks = batch[0], tasks_of(batch)
    names = batch.names_of(images) if isinstance(batch, MarkedBatch) else None
    sums = batch.sums if isinstance(batch, MarkedBatch) else None
    if names is None and images.device.type == "cpu" and not teacher.cache.is_filled:
        names = pixel_names(images, tasks)

    def part(rows: Tensor) -> Forward:
        return partial(_forward, 0 if tasks is None else tasks.index_select(0, rows))

    return Named(names, sums, part)


# ---- the decision -----------------------------------------------------------------------


def plan_cache(plugin: FeaturePlugin, strategy: Any, loading: Mapping[str, Any]) -> None:
    """Decide once an experience if the plugin's teacher gets a cache, and mark the loader.

    Raises:
        ValueError: when a cache was asked for that cannot be.
    """
    teacher, settings = plugin.reference, plugin.cache
    assert teacher is not None
    if not teacher.cache_planned:
        teacher.cache_planned = True
        try:
            cache = _planned(plugin, teacher, strategy, loading)
        except _NoCache as reason:
            if settings.choice != "auto":
                raise ValueError(
                    f"teacher_cache={settings.choice!r} cannot be: {reason}; {reason.remedy}"
                ) from None
            _log.info("%s: no teacher cache: %s", plugin.name, reason)
        else:
            if cache is not None:
                _log.info("%s: %s", plugin.name, cache.about)
                teacher.begin_cache(cache)
    if teacher.cache is not None:
        mark(strategy.dataloader, verify=strategy.device.type != "cpu")


def _planned(
    plugin: FeaturePlugin, teacher: FeatureTeacher, strategy: Any, loading: Mapping[str, Any]
) -> TeacherCache | None:
    settings, resumed = plugin.cache, teacher.saved_cache is not None
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
    probe = _Probe(plugin, teacher, strategy, datasets, clean)
    if not clean and not probe.same_again and not resumed:
        raise _NoCache(
            "transforms are random, so no view comes again",
            "pass cache_views=N to train on N views of each sample in turn, or 'off'",
        )
    probe.check_apart()
    capacity = probe.count * (1 if clean else settings.views or 1)
    _check_size(settings, capacity * probe.row_bytes, strategy.device)
    cache = TeacherCache(
        capacity,
        torch.float16 if settings.dtype else None,
        None if settings.dir is None or clean else probe.file_opener(capacity),
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
    step = max(0, min(4, int(math.log(max(size, 1), 1024))))
    return f"{size / 1024**step:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[step]}"


def _clean(data: Any) -> Any:
    """The evaluation view of a data set."""
    return (data.data if isinstance(data, ReplayedViews) else data).eval()


def _forward(tasks: Any, model: nn.Module, images: Tensor) -> Any:
    return avalanche_forward(model, images, tasks)


class _Probe:
    """A few samples of the data, and the teacher's answer, before the first step.

    Attributes:
        count: samples in all data sets of the loader.
        same_again: whether their pixels are the same when they are drawn a second time.
        row_bytes: of what a cache keeps of one sample.
    """

    def __init__(
        self, plugin: FeaturePlugin, teacher: FeatureTeacher, strategy: Any,
        datasets: Sequence[Any], clean: bool,
    ) -> None:  # fmt: skip
        self.plugin, self.teacher, self.strategy = plugin, teacher, strategy
        self.datasets = [_clean(data) if clean else data for data in datasets]
        self.count = sum(map(len, datasets))
        chosen = sorted({k * (self.count - 1) // max(1, _PROBED - 1) for k in range(_PROBED)})
        first, second = (self._drawn(chosen, seed) for seed in (0, 1))
        self.batch = strategy.adapted_dataset.collate_fn(first)
        again = strategy.adapted_dataset.collate_fn(second)[0]
        self.same_again = torch.equal(self.batch[0], again)
        whole = self._asked(slice(None))
        self.values = whole
        short = 2 if plugin.cache.dtype else None
        self.row_bytes = sum(
            v[0].numel() * (short or v.element_size())
            for v in whole.values() if isinstance(v, Tensor)
        )  # fmt: skip

    def _drawn(self, chosen: Sequence[int], seed: int) -> list[Any]:
        items = []
        for number in chosen:
            for data in self.datasets:
                if number < len(data):
                    break
                number -= len(data)
            with seeded(seed):
                items.append(data[number])
        return items

    def _asked(self, rows: slice) -> dict[Any, Any]:
        device = self.strategy.device
        tasks = tasks_of(self.batch)
        some = 0 if tasks is None else tasks[rows].to(device)
        values = self.plugin.ask_teacher(some)(self.batch[0][rows].to(device))
        self.teacher.forget()
        return values

    def check_apart(self) -> None:
        """Refuse a teacher whose answer for a sample is not one of the sample alone."""
        count = len(self.batch[0])
        for source, value in self.values.items():
            if not isinstance(value, Tensor) or len(value) != count:
                raise _NoCache(
                    f"{str(source)!r} gives no tensor with a row for each sample",
                    "pass teacher_cache='off'",
                )
        if count < 2:
            return
        halves = [self._asked(slice(0, count // 2)), self._asked(slice(count // 2, count))]
        for source, value in self.values.items():
            parts = torch.cat([half[source] for half in halves])
            if parts.shape != value.shape or not torch.allclose(
                parts, value, rtol=1e-2, atol=1e-2 * float(value.abs().max())
            ):
                raise _NoCache(
                    f"what {str(source)!r} holds for a sample depends on the others of its batch, "
                    "or is random",
                    "pass teacher_cache='off'",
                )

    def file_opener(self, capacity: int) -> Any:
        """Opens the file of this teacher, these data and their views."""
        settings, labels = (
            self.plugin.cache,
            torch.as_tensor([int(y) for y in self.strategy.adapted_dataset.targets]),
        )
        names = [] if not self.same_again else pixel_names(self.batch[0])
        views = {"views": settings.views, "seed": self.plugin.view_seed if settings.views else 0}

        def opened(autocast: torch.dtype | None) -> CacheFile | None:
            key = {
                "teacher": self.teacher.key(), "module": repr(self.teacher.module),
                "data": data_key(names, labels), "capacity": capacity, **views,
                "autocast": str(autocast), "dtype": settings.dtype,
                **kernels_key(self.strategy.device),
            }  # fmt: skip
            return CacheFile.open(Path(settings.dir or "."), key, self.teacher.sources)

        return opened

    def clean_pass(self, loading: Mapping[str, Any]) -> Any:
        """One pass over the evaluation views of all samples."""

        def fill(autocast: torch.dtype | None) -> Iterator[tuple[Sequence[bytes], Any]]:
            strategy, first = self.strategy, 0
            device = strategy.device
            for data in self.datasets:
                for batch in all_batches(
                    data, device, strategy.eval_mb_size or strategy.train_mb_size,
                    int(loading.get("num_workers", 0)), strategy.adapted_dataset.collate_fn,
                    "the teacher's clean views",
                ):  # fmt: skip
                    tasks = tasks_of(batch)
                    some = 0 if tasks is None else tasks.to(device)
                    call = partial(_forward, some)
                    values = self.teacher.live(batch[0].to(device), autocast, call)
                    count = len(batch[0])
                    yield [sample_name(first + k) for k in range(count)], values
                    first += count

        return fill
