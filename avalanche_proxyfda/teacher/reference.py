"""A teacher's values of reference images, cached by the images' numbers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from avalanche_proxyfda._accelerator import free_memory
from avalanche_proxyfda.data.reference import ReferenceBatch, ReferenceData
from avalanche_proxyfda.teacher.cache.batch import task_forward
from avalanche_proxyfda.teacher.cache.names import sample_name
from avalanche_proxyfda.teacher.cache.settings import CacheSettings
from avalanche_proxyfda.teacher.cache.teacher_cache import TeacherCache
from avalanche_proxyfda.teacher.cached import CachedTeacher, Named
from avalanche_proxyfda.teacher.teacher import Values, kept_values

_log = logging.getLogger(__name__)
_FORWARD = task_forward(None)  # task 0: heads are not run


class ReferenceAnswers:
    """A teacher's values of the images of one :class:`ReferenceData`.

    The view of a reference image never changes, so its number names the value. After the first
    pass over the images, a step costs no teacher forward. The cache lives as long as the
    teacher: with ``teacher="initial"``, for all experiences. It is the cache of
    :class:`CachedTeacher`, with its rounding and its limit. If the limit allows fewer rows than
    there are images, the teacher computes the other rows each time.

    Args:
        teacher: computes the values; its own cache, for training images, is not used.
        data: the reference data.
        settings: options of the cache; ``"off"`` runs the teacher every time.
        saved: a saved state, see :meth:`state_dict`; None for a new teacher.
    """

    def __init__(
        self,
        teacher: CachedTeacher,
        data: ReferenceData,
        settings: CacheSettings,
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        self.teacher, self.data, self.settings = teacher, data, settings
        self.texts: Tensor | None = None
        """The teacher's text features of the texts, [M, D]."""
        self._own = CachedTeacher(teacher.teacher)  # with a batch and a cache of its own
        self._last: tuple[ReferenceBatch, Values] | None = None
        if saved is not None:
            self.texts = saved["texts"]
            self._own.restore_cache(saved["cache"])

    @property
    def cache(self) -> TeacherCache | None:
        """The cache of the reference images; None without one."""
        return self._own.cache

    def values(self, batch: ReferenceBatch, autocast: torch.dtype | None) -> Values:
        """Return the values of every place of the teacher for a batch.

        The values of the last batch are remembered until :meth:`forget`.

        Raises:
            ValueError: if ``teacher_cache="exact"`` is not possible for this teacher.
            torch.OutOfMemoryError: if the device has no memory for the cache, unless
                ``teacher_cache`` is ``"auto"``.
        """
        if self._last is None or self._last[0] is not batch:
            self._last = batch, self._values(batch, autocast)
        return self._last[1]

    def _values(self, batch: ReferenceBatch, autocast: torch.dtype | None) -> Values:
        own, images = self._own, batch.images
        names = [sample_name(number) for number in batch.numbers]
        if not own.cache_planned:
            own.cache_planned = True
            if own.saved_cache is not None:
                self._begin(int(own.saved_cache["capacity"]))
            elif self.settings.choice == "exact" or (
                self.settings.choice != "off" and not own.declined
            ):
                first = kept_values(own.live(images, autocast, _FORWARD))
                capacity = self._capacity(images, first, autocast)
                own.declined = capacity == 0
                if own.declined:
                    return first
                cache = self._begin(capacity)
                values = cache.values(images, names, None, autocast, lambda rows: first)
                own.drop_cache_without_memory()
                return values
        values = own.values(images, autocast, _FORWARD, Named(names))
        own.forget()
        return values

    def _begin(self, capacity: int) -> TeacherCache:
        dtype, choice = torch.float16 if self.settings.dtype else None, self.settings.choice
        cache = TeacherCache(capacity, dtype, choice=choice)
        cache.about = f"teacher cache: {capacity:,} reference images"
        self._own.begin_cache(cache)
        return cache

    def _capacity(self, images: Tensor, values: Values, autocast: torch.dtype | None) -> int:
        """Return the number of rows that a cache may hold; 0 for no cache."""
        reason = self._why_not(images, values, autocast)
        if reason is not None:
            if self.settings.choice == "exact":
                raise ValueError(
                    f"teacher_cache='exact' is not possible on the reference data: {reason}; pass "
                    "teacher_cache='off'"
                )
            _log.info("no cache of the teacher's values of reference images: %s", reason)
            return 0
        half = 2 if self.settings.dtype else None  # bytes of a float16
        row = sum(v[0].numel() * (half or v.element_size()) for v in values.values())
        room, free = self.settings.bytes, free_memory(images.device)
        if free is not None and self.settings.choice != "exact":
            room = min(room, free // 2)
        return int(min(len(self.data), room // max(1, row)))

    def _why_not(self, images: Tensor, values: Values, autocast: torch.dtype | None) -> str | None:
        """Return why the values of a sample alone cannot be cached; None if they can."""
        for source, value in values.items():
            if not isinstance(value, Tensor) or len(value) != len(images):
                return f"{str(source)!r} gives no tensor with a row for each image"
        if self.teacher.cache is not None or len(images) < 2:
            return None  # the cache of training images has passed the same check
        halves = images.chunk(2)
        parts = [kept_values(self._own.live(half, autocast, _FORWARD)) for half in halves]
        for source, value in values.items():
            joined, bound = torch.cat([part[source] for part in parts]), float(value.abs().max())
            if not torch.allclose(joined, value, rtol=1e-2, atol=1e-2 * bound):
                return f"{str(source)!r} of an image is random, or depends on the others' images"
        return None

    def counts(self) -> tuple[int, int, int]:
        """Return forwards of the teacher, look-ups and hits so far."""
        cache = self._own.cache
        lookups, hits = (0, 0) if cache is None else (cache.lookups, cache.hits)
        return self.teacher.forwards, lookups, hits

    def forget(self) -> None:
        """Drop the remembered batch and its values."""
        self._last = None

    def state_dict(self) -> dict[str, Any]:
        """Return the text features and the cache."""
        cache = self._own.cache_state()
        if cache is not None and self._own.cache is not None:
            cache = {**cache, "capacity": self._own.cache.store.capacity}
        return {"texts": self.texts, "cache": cache}

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes with the cache as a saved state, for copies and pickling.

        A copy of the teacher has its weights at another place in memory, which a cache in use
        takes for other weights.
        """
        own = CachedTeacher(self.teacher.teacher)
        own.restore_cache(self.state_dict()["cache"])
        return {**self.__dict__, "_own": own, "_last": None}
