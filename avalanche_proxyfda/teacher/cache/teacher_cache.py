"""A teacher's values by sample: looked up if cached, else computed by the teacher and cached."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from avalanche_proxyfda._accelerator import lacks_memory
from avalanche_proxyfda.features.source import FeatureSource
from avalanche_proxyfda.teacher.cache.file import CacheFile
from avalanche_proxyfda.teacher.cache.names import checksums
from avalanche_proxyfda.teacher.cache.settings import CacheChoice
from avalanche_proxyfda.teacher.cache.store import FeatureStore, Rows, index_of

Ask = Callable[[Tensor | None], Rows]
"""Takes row numbers of the batch (None for all rows); returns the teacher's values of them."""
Fill = Callable[[torch.dtype | None], Iterable[tuple[Sequence[bytes], Rows]]]
"""Takes the dtype of the autocast; returns the names and values of all samples, in batches."""
Open = Callable[[torch.dtype | None], CacheFile | None]
"""Takes the dtype of the autocast; returns the file of the cache, or None."""

_log = logging.getLogger(__name__)
_DTYPES = {str(d): d for d in (torch.float32, torch.float16, torch.bfloat16, torch.float64)}


class TeacherCache:
    """Caches a teacher's values by sample name; the teacher computes the missing values.

    If no sample of a batch is cached, the teacher reads the whole batch, so that the first
    values have the bits of a teacher without a cache. If some samples are cached, the teacher
    reads the others only. The cache holds the values of one autocast dtype, the first one.
    Under any other dtype it is skipped.

    Args:
        capacity: maximum number of samples (or views); the teacher computes the others anew.
        dtype: dtype that values are rounded to, also before they are cached; None leaves them
            unrounded.
        open_file: opens the file of the cache for a dtype of the autocast. If it is None or
            returns None, the cache is in the memory of the teacher's device.
        fill: computes the values of all samples at the first look-up; the samples of later
            look-ups must be among them.
        choice: the plugin's ``teacher_cache``. If the device has no memory for the cache,
            ``"auto"`` goes on without one, and every other choice raises an error.

    Attributes:
        lookups: samples that were looked up.
        hits: samples that were looked up and cost no forward.
        about: size and place of the cache, for messages.
        lacks_memory: True if the device had no memory for the cache, which then holds nothing.
    """

    def __init__(
        self,
        capacity: int,
        dtype: torch.dtype | None = None,
        open_file: Open | None = None,
        fill: Fill | None = None,
        choice: CacheChoice = "exact",
    ) -> None:
        self.store = FeatureStore(capacity, dtype)
        self.choice = choice
        self.lookups = self.hits = 0
        self.about, self.lacks_memory = f"teacher cache: {capacity:,} views", False
        self._open, self._fill = open_file, fill
        self._file: CacheFile | None = None
        self._begun = False
        self._autocast: torch.dtype | None = None
        self._kinds: dict[FeatureSource, torch.dtype] = {}  # the teacher's dtypes
        self._changed: Tensor | None = None  # True if a batch differed from the named images

    @property
    def is_filled(self) -> bool:
        """True if the values of all samples are computed at the first look-up."""
        return self._fill is not None

    # ---- a batch ----------------------------------------------------------------------

    def values(
        self,
        images: Tensor,
        names: Sequence[bytes] | None,
        sums: Tensor | None,
        autocast: torch.dtype | None,
        ask: Ask,
    ) -> Rows:
        """Return the values of every place for a batch.

        Args:
            images: the batch, [B, ...] on any device.
            names: names of the B samples; None, if they are unknown, skips the cache.
            sums: checksums of the named images, [B], if these were on another device.
            autocast: dtype of the student's autocast; None without autocast.
            ask: runs the teacher.

        Raises:
            ValueError: if the cache was filled before and lacks a sample.
            torch.OutOfMemoryError: if the device has no memory for the cache, unless the choice
                is ``"auto"``.
        """
        if not self._begun:
            self._begin(autocast)
        if self._fill is not None:
            self._check_filled(names, autocast)
        self.lookups += len(images)
        if names is None or autocast != self._autocast:
            return ask(None)
        if sums is not None:
            differ = (checksums(images) != sums.to(images.device, non_blocking=True)).any()
            self._changed = differ if self._changed is None else self._changed | differ
        # row of the first sample of each name that is not cached
        first = {name: at for at, name in reversed([*enumerate(names)]) if name not in self.store}
        if not first:
            self.hits += len(names)
            return self._as_given(self.store.gather(names, images.device))
        known = [name for name in names if name not in first]
        self.hits += len(known)
        if not known:
            return self._whole_batch(names, sorted(first.values()), ask, images.device)
        missing = sorted(first, key=lambda name: first[name])
        rows = index_of([first[name] for name in missing], images.device)
        computed = self._rounded(ask(rows))
        cached = self.store.gather(known, images.device)
        self._add(missing, computed)
        place = {name: k for k, name in enumerate((*known, *missing))}
        order = index_of([place[name] for name in names], images.device)
        joined = {s: torch.cat((cached[s], v)).index_select(0, order) for s, v in computed.items()}
        return self._as_given(joined)

    def _whole_batch(
        self, names: Sequence[bytes], places: list[int], ask: Ask, device: torch.device
    ) -> Rows:
        """Return and cache the values of a batch of which no sample is cached."""
        values = self._rounded(ask(None))
        if len(places) < len(names):  # the batch holds a sample twice
            at = index_of(places, device)
            self._add([names[p] for p in places], {s: v[at] for s, v in values.items()})
        else:
            self._add(names, values)
        return self._as_given(values)

    def _check_filled(self, names: Sequence[bytes] | None, autocast: torch.dtype | None) -> None:
        if names is None:
            reason = "something replaces the images between the loader and the model"
        elif autocast != self._autocast:
            reason = f"the autocast changed from {self._autocast} to {autocast}"
        elif any(name not in self.store for name in names):
            reason = "the loader has data that it had not when the experience began"
        else:
            return
        raise ValueError(
            f"teacher_cache='clean' has no values for this batch: {reason}; "
            "pass teacher_cache='off'"
        )

    def _rounded(self, values: Rows) -> Rows:
        """Return values of the teacher in the store's dtype, and note the teacher's dtypes."""
        self._kinds = {source: rows.dtype for source, rows in values.items()}
        return self.store.rounded(values)

    def _as_given(self, values: Rows) -> Rows:
        """Return values of the store in the teacher's dtypes."""
        return {s: v.to(self._kinds.get(s, v.dtype)) for s, v in values.items()}

    def _add(self, names: Sequence[bytes], values: Rows) -> None:
        if self._file is None or self._file.writable:
            with self._reserving():
                self.store.add(names, values)

    @contextmanager
    def _reserving(self) -> Iterator[None]:
        """Raise an error with a remedy if the memory is too small, or drop the rows with "auto"."""
        try:
            yield
        except RuntimeError as error:
            if not lacks_memory(error):
                raise
            smaller = "cache_dtype='float16' or " if self.store.dtype is None else ""
            self.store, remedy = FeatureStore(0), f"{smaller}teacher_cache='off'"
            if self.choice != "auto":
                raise torch.OutOfMemoryError(
                    f"teacher_cache={self.choice!r} has no memory left on the device "
                    f"({self.about}): pass {remedy}"
                ) from error
            self.lacks_memory = True
            _log.warning(
                "the device has no memory left for a cache, so the teacher runs in every step "
                "(%s): pass %s",
                self.about,
                remedy,
            )

    # ---- an experience ----------------------------------------------------------------

    def _begin(self, autocast: torch.dtype | None) -> None:
        """Open the file and compute the values of all samples, if the cache does so."""
        self._begun, self._autocast = True, autocast
        self._file = self._open(autocast) if self._open else None
        if self._file is not None:
            self.store = FeatureStore(self.store.capacity, self.store.dtype, self._file.allocate)
            self.store.slots, self.store.rows, self._kinds = self._file.read()
        if self._fill is not None:
            for names, values in self._fill(autocast):
                self._add(names, self._rounded(values))

    def end_epoch(self) -> None:
        """Write the file's index, and check the images of all batches.

        Raises:
            ValueError: see :meth:`check_images`.
            OSError: if the index cannot be written.
        """
        self.check_images()
        self._flush()

    def check_images(self) -> None:
        """Check that all batches since the last call were the named images.

        Raises:
            ValueError: if the images of a batch were changed after they were named.
        """
        changed, self._changed = self._changed, None
        if changed is not None and bool(changed):
            raise ValueError(
                "images were changed on their way from the loader to the model, so the teacher's "
                "cache gave the values of other images: pass teacher_cache='off'"
            )

    def _flush(self) -> None:
        if self._file is not None and self._file.writable:
            self._file.write_index(self.store.slots, self.store.rows, self._kinds)

    def close(self) -> None:
        """Free the rows and close the file; rows that its index lacks are lost."""
        if self._file is not None:
            self._file.close()
        self.store, self._file = FeatureStore(0), None

    # ---- saved state ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return names and rows, or the name of the file that holds them."""
        state: dict[str, Any] = {"begun": self._begun, "autocast": str(self._autocast)}
        if self._fill is not None:  # computed again after a resume, to the same values
            return {**state, "begun": False}
        if self._file is not None:
            self._flush()
            return {**state, "file": self._file.name}
        kinds = {str(source): str(kind) for source, kind in self._kinds.items()}
        return {**state, **self.store.state_dict(), "kinds": kinds}

    def load_state_dict(
        self, state: Mapping[str, Any], places: Sequence[FeatureSource], device: torch.device
    ) -> None:
        """Load a saved state of the same teacher; a file is opened at the first look-up.

        Args:
            state: the result of :meth:`state_dict`.
            places: the places of the teacher.
            device: device of the rows.
        """
        if not state["begun"] or "file" in state:
            return
        self._begun, self._autocast = True, _DTYPES.get(state["autocast"])
        kinds = state["kinds"]
        self._kinds = {p: _DTYPES[kinds[str(p)]] for p in places if str(p) in kinds}
        with self._reserving():
            self.store.load_state_dict(state, places, device)
