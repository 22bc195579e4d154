"""A feature teacher with a cache: an image that comes back costs no teacher forward."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_proxyfda.features.source import FeatureSource
from avalanche_proxyfda.models.text_tower import TextTower
from avalanche_proxyfda.teacher.cache.key import weights_key
from avalanche_proxyfda.teacher.cache.teacher_cache import TeacherCache
from avalanche_proxyfda.teacher.teacher import FeatureTeacher, Forward, Values

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Named:
    """The names of a batch's samples, which are the keys of the cache.

    Attributes:
        names: a name for each sample; None if the names are unknown.
        sums: checksums of the named images, [B], if these were on another device.
        part: returns a function that calls a whole model for some rows of the batch; it takes
            the indices of the rows, [b].
    """

    names: Sequence[bytes] | None = None
    sums: Tensor | None = None
    part: Callable[[Tensor], Forward] | None = None


class CachedTeacher:
    """A :class:`FeatureTeacher` that can cache its values by sample within an experience.

    When the same images come back, the values come from :attr:`cache`, keyed by a hash of the
    pixels. Without a cache every batch costs one teacher forward.

    The values of the last batch are remembered until :meth:`forget`, so all plugins that share
    a teacher need one teacher forward a step.

    Args:
        teacher: the teacher that computes the values.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from avalanche_proxyfda import FeatureSource, FeatureTeacher
        >>> from avalanche_proxyfda.teacher import CachedTeacher
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
        >>> teacher = CachedTeacher(FeatureTeacher(model, [FeatureSource("0")]))
        >>> images = torch.ones(5, 4)
        >>> for _ in range(2):  # two plugins ask for the same batch
        ...     values = teacher.values(images)
        >>> values[FeatureSource("0")].shape, teacher.forwards
        (torch.Size([5, 3]), 1)
    """

    def __init__(self, teacher: FeatureTeacher) -> None:
        self.teacher = teacher
        self.cache: TeacherCache | None = None
        """The cache of this experience; None without one."""
        self.cache_planned = False
        """True once this experience has a decision for or against a cache."""
        self.saved_cache: Mapping[str, Any] | None = None
        """A restored state of the cache, until :meth:`begin_cache` loads it."""
        self.declined = False
        """True if ``"auto"`` has decided against a cache in this experience."""
        self._batch: Tensor | None = None
        self._values: Values = {}
        self._tables: list[dict[str, Any]] = []  # parameters and buffers of all modules
        self._frozen_as: list[tuple[int, int]] = []
        self._key = ""

    # ---- the teacher ------------------------------------------------------------------

    @property
    def sources(self) -> tuple[FeatureSource, ...]:
        """The places that the teacher reads."""
        return self.teacher.sources

    @property
    def module(self) -> nn.Module:
        """The copy of the model, or of the part that computes all places."""
        return self.teacher.module

    @property
    def root(self) -> str:
        """Name of :attr:`module` in the model; "" for the whole model."""
        return self.teacher.root

    @property
    def forwards(self) -> int:
        """Teacher forwards so far."""
        return self.teacher.forwards

    @property
    def text(self) -> TextTower | None:
        """The copy of the model's trained text tower.

        None if ``needs_text()`` of no plugin with this teacher is True, and for a model whose text
        tower is frozen, which holds none.
        """
        return self.teacher.text

    def text_embeddings(self, tokens: Tensor, autocast: torch.dtype | None = None) -> Tensor:
        """Return text embeddings [M, D], see :meth:`FeatureTeacher.text_embeddings`."""
        return self.teacher.text_embeddings(tokens, autocast)

    def find(self, source: FeatureSource) -> nn.Module:
        """Return the teacher's module at one of its places."""
        return self.teacher.find(source)

    def live(self, images: Tensor, autocast: torch.dtype | None, forward: Forward | None) -> Values:
        """Return the values of one teacher forward, without the cache."""
        return self.teacher.live(images, autocast, forward)

    # ---- values -----------------------------------------------------------------------

    @torch.no_grad()
    def values(
        self,
        images: Tensor,
        autocast: torch.dtype | None = None,
        forward: Forward | None = None,
        named: Named | None = None,
    ) -> Values:
        """Return the values of every place for a batch.

        Args:
            images: the batch of the student, [B, ...].
            autocast: dtype of the student's autocast; None without autocast.
            forward: calls a whole model, if ``module(images)`` does not.
            named: the samples' names, for the cache; None skips the cache.

        Raises:
            ValueError: if the forward does not run a place, or a cache that is filled before
                training lacks a sample.
        """
        if images is self._batch:
            return self._values
        if self.cache is None or named is None or not self._is_unchanged():
            values = self.live(images, autocast, forward)
        else:
            part = named.part

            def ask(rows: Tensor | None) -> Values:
                if rows is None:
                    return self.live(images, autocast, forward)
                call = forward if part is None else part(rows)
                return self.live(images.index_select(0, rows), autocast, call)

            values = self.cache.values(images, named.names, named.sums, autocast, ask)
            self.drop_cache_without_memory()
        self._batch, self._values = images, values
        return values

    def forget(self) -> None:
        """Drop the remembered batch and its values."""
        self._batch, self._values = None, {}

    # ---- the cache --------------------------------------------------------------------

    def begin_cache(self, cache: TeacherCache) -> None:
        """Cache values from now on, and load a restored state if it belongs to this teacher.

        Call it after the first forward, which shows the part of the model that is needed.
        """
        parts = self.module.modules()
        self._tables = [table for part in parts for table in (part._parameters, part._buffers)]
        self.cache, self._frozen_as = cache, self._versions_of_weights()
        state, self.saved_cache = self.saved_cache, None
        if state is not None and state["key"] != self.key():
            _log.warning("the saved cache belongs to another teacher and is not used")
        elif state is not None:
            device = next((v.device for v in self.module.parameters()), torch.device("cpu"))
            cache.load_state_dict(state, self.sources, device)
            self.drop_cache_without_memory()

    def drop_cache_without_memory(self) -> None:
        """Go on without the cache in this experience, if the device has no memory for it."""
        if self.cache is not None and self.cache.lacks_memory:
            self.end_cache()
            self.cache_planned = self.declined = True

    def end_cache(self) -> None:
        """Close and drop the cache; the next experience decides again."""
        if self.cache is not None:
            self.cache.close()
        self.cache, self.cache_planned, self._tables = None, False, []
        self.declined = False

    def key(self) -> str:
        """Return the SHA-256 of the weights, buffers, classes of modules, and places."""
        if not self._key or self.cache is None or not self._has_same_versions():
            self._key = weights_key(self.module, self.sources)
        return self._key

    def _versions_of_weights(self) -> list[tuple[int, int]]:
        """Return a list that differs after any write to the weights or their replacement."""
        values = (value for table in self._tables for value in table.values())
        return [(value.data_ptr(), value._version) for value in values if value is not None]

    def _has_same_versions(self) -> bool:
        return self._versions_of_weights() == self._frozen_as

    def _is_unchanged(self) -> bool:
        """Return True if the weights are those of the cache; otherwise drop the cache."""
        if self._has_same_versions():
            return True
        _log.warning("the teacher's weights were changed, so its cache is no longer used")
        self.end_cache()
        self.cache_planned = True
        return False

    # ---- saved state ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the teacher, and under ``"cache"`` :meth:`cache_state`."""
        return {**self.teacher.state_dict(), "cache": self.cache_state()}

    def cache_state(self) -> Mapping[str, Any] | None:
        """Return the state of the cache, or that it was declined; None if neither is known."""
        if self.cache is not None:
            return {"key": self.key(), **self.cache.state_dict()}
        return {"declined": True} if self.declined else self.saved_cache

    def restore_cache(self, state: Mapping[str, Any] | None) -> None:
        """Take a result of :meth:`cache_state`; :meth:`begin_cache` loads its rows."""
        self.declined = state is not None and "declined" in state
        self.saved_cache = None if self.declined else state

    @staticmethod
    def restore(
        model: nn.Module,
        sources: Iterable[FeatureSource],
        state: Mapping[str, Any],
        needs_text: bool = False,
    ) -> CachedTeacher:
        """Return the teacher of a saved state, see :meth:`FeatureTeacher.restore`.

        :meth:`begin_cache` loads the saved cache.

        Raises:
            ValueError: if ``model`` lacks a tensor of ``state``.
        """
        cached = CachedTeacher(FeatureTeacher.restore(model, sources, state, needs_text))
        cached.restore_cache(state.get("cache"))
        return cached
