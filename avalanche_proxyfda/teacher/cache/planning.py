"""Decides if a teacher gets a cache for an experience, and names the samples of batches."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from avalanche_proxyfda._accelerator import free_memory
from avalanche_proxyfda._checks import named_kind
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.data.loaders import datasets_of, with_datasets
from avalanche_proxyfda.data.views import NumberedItems
from avalanche_proxyfda.distributed.ranks import max_over_ranks
from avalanche_proxyfda.teacher.cache.batch import MarkedBatch, mark, task_forward, tasks_of
from avalanche_proxyfda.teacher.cache.names import pixel_names
from avalanche_proxyfda.teacher.cache.probe import Ask, NoCache, Probe
from avalanche_proxyfda.teacher.cache.settings import CacheSettings
from avalanche_proxyfda.teacher.cache.teacher_cache import TeacherCache
from avalanche_proxyfda.teacher.cached import CachedTeacher, Named
from avalanche_proxyfda.teacher.teacher import Forward

_log = logging.getLogger(__name__)


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
        return task_forward(None if tasks is None else tasks.index_select(0, rows))

    return Named(names, sums, forward_of)


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
        except NoCache as reason:
            if settings.choice != "auto":
                raise ValueError(
                    f"teacher_cache={settings.choice!r} is not possible: {reason}; {reason.remedy}"
                ) from None
            _log.info("%s: no teacher cache: %s", name, reason)
            teacher.declined, teacher.saved_cache = True, None
        else:
            if cache is not None:
                _log.info("%s: %s", name, cache.about)
                teacher.begin_cache(cache)
    # with online mining the ranks send each other the names of marked batches
    if max_over_ranks([int(teacher.cache is not None)])[0]:
        mark(strategy.dataloader, verify=strategy.device.type != "cpu")


def _planned(
    teacher: CachedTeacher,
    settings: CacheSettings,
    strategy: Strategy,
    loading: Mapping[str, Any],
    ask: Ask,
    view_seed: int,
) -> TeacherCache | None:
    """Return a new cache; None with ``"off"``; raise :class:`NoCache` if it is not possible."""
    resumed = teacher.saved_cache is not None
    if settings.choice == "off":
        return None
    auto, clean = settings.choice == "auto", settings.choice == "clean"
    if auto and teacher.declined:
        raise NoCache("the training that is resumed had none in this experience", "")
    epochs = strategy.train_epochs
    if auto and not resumed and not settings.dir and epochs <= (settings.views or 1):
        raise NoCache(f"no view comes again in {epochs} epochs", "")
    datasets = datasets_of(strategy.dataloader)
    if datasets is None:
        if clean or strategy.device.type != "cpu":
            raise NoCache(
                f"{named_kind(strategy.dataloader)} does not tell which samples a batch holds",
                "pass teacher_cache='off', or train with a DataLoader of torch or Avalanche",
            )
        datasets = [strategy.adapted_dataset]
    probe = Probe(teacher, settings, strategy, datasets, ask)
    if not clean and not probe.same_again and not resumed:
        raise NoCache(
            "transforms are random, so no view comes again",
            "pass cache_views=N to train on N views of each sample in turn, or 'off'",
        )
    probe.check_independent()
    capacity = probe.count * (1 if clean else settings.views or 1)
    _check_size(settings, capacity * probe.row_bytes, None if resumed else strategy.device)
    cache = TeacherCache(
        capacity,
        torch.float16 if settings.dtype else None,
        None if settings.dir is None or clean else probe.file_opener(capacity, view_seed),
        probe.clean_pass(loading) if clean else None,
        settings.choice,
    )
    place = f"in {settings.dir}" if settings.dir and not clean else f"on {strategy.device}"
    cache.about = (
        f"teacher cache: {capacity:,} views x {probe.row_bytes:,} B = "
        f"{_readable(capacity * probe.row_bytes)} {place}"
    )
    if clean:
        strategy.dataloader = with_datasets(strategy.dataloader, NumberedItems)
    return cache


def _check_size(settings: CacheSettings, size: int, device: torch.device | None) -> None:
    """Raise :class:`NoCache` if a cache of ``size`` bytes is too large.

    ``"auto"`` takes at most half of the free memory of ``device``; None does not limit it.
    """
    if size > settings.bytes:
        raise NoCache(
            f"it would take {_readable(size)}, and cache_bytes={settings.bytes} allows "
            f"{_readable(settings.bytes)}",
            f"pass cache_bytes={size} or more, cache_dtype='float16', or teacher_cache='off'",
        )
    if settings.choice == "auto" and not settings.dir and device is not None:
        free = free_memory(device)
        if free is not None and size > free // 2:
            raise NoCache(f"it would take {_readable(size)} of {_readable(free)} free", "")


def _readable(size: float) -> str:
    """Return a number of bytes with three digits and a unit."""
    step = max(0, min(4, int(math.log(max(size, 1), 1024))))
    return f"{size / 1024**step:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[step]}"
