"""When a frozen teacher is asked, and when its answer is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from avalanche_proxyfda.cache.file import CacheFile
from avalanche_proxyfda.cache.names import checksums
from avalanche_proxyfda.cache.store import FeatureStore, Rows, index_of
from avalanche_proxyfda.feature_source import FeatureSource

Ask = Callable[[Tensor | None], Rows]
"""The teacher itself: rows of the batch (None: all of it) to their values."""
Fill = Callable[[torch.dtype | None], Iterable[tuple[Sequence[bytes], Rows]]]
Open = Callable[[torch.dtype | None], CacheFile | None]


class TeacherCache:
    """Keeps a teacher's values by the names of samples; asks it for those that are not there.

    A batch of which nothing is known goes through the teacher as a whole, so that values of a
    first encounter have the bits of a live teacher; of a batch of which a part is known, only
    the rest does. Values of one autocast dtype are kept, the first; under another the teacher
    is live.

    Args:
        capacity: samples (or views) at most; beyond that the teacher is live.
        dtype: what values are rounded to, at their first encounter as well; None leaves them.
        open_file: gives the file to keep them in, for the dtype of the autocast, or None; then,
            and without it, they lie in the memory of the teacher's device.
        fill: gives names and values of all samples, for the dtype of the autocast, at the first
            lookup; nothing else may be asked then.

    Attributes:
        lookups, hits: samples asked for, and those of them that cost no forward.
        about: size and place, to read.
    """

    def __init__(
        self,
        capacity: int,
        dtype: torch.dtype | None = None,
        open_file: Open | None = None,
        fill: Fill | None = None,
    ) -> None:
        self.store = FeatureStore(capacity, dtype)
        self.lookups = self.hits = 0
        self.about = ""
        self._open, self._fill = open_file, fill
        self._file: CacheFile | None = None
        self._begun = False
        self._autocast: torch.dtype | None = None
        self._kinds: dict[FeatureSource, torch.dtype] = {}
        self._changed: Tensor | None = None  # whether a batch was not what had been named

    @property
    def is_filled(self) -> bool:
        """Whether all samples are computed before the first lookup."""
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
        """What every place holds for a batch.

        Args:
            images: the batch, on any device.
            names: of its samples; None when they are not known: then the teacher is live.
            sums: check sums of what was named, where that was on another device.
            autocast: the dtype of the student's autocast; None where it had none.
            ask: the teacher.

        Raises:
            ValueError: when a sample should have been there and is not.
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
        first = {name: at for at, name in reversed([*enumerate(names)]) if name not in self.store}
        if not first:
            self.hits += len(names)
            return self._as_given(self.store.gather(names, images.device))
        known = [name for name in names if name not in first]
        self.hits += len(known)
        if not known:
            return self._first_encounter(names, sorted(first.values()), ask, images.device)
        asked = sorted(first, key=lambda name: first[name])
        fresh = self._seen(ask(index_of([first[name] for name in asked], images.device)))
        old = self.store.gather(known, images.device)
        self._add(asked, fresh)
        place = {name: k for k, name in enumerate((*known, *asked))}
        order = index_of([place[name] for name in names], images.device)
        joined = {s: torch.cat((old[s], fresh[s])).index_select(0, order) for s in fresh}
        return self._as_given(joined)

    def _first_encounter(
        self, names: Sequence[bytes], places: list[int], ask: Ask, device: torch.device
    ) -> Rows:
        values = self._seen(ask(None))
        if len(places) < len(names):  # a sample that is in the batch twice
            at = index_of(places, device)
            self._add([names[p] for p in places], {s: v[at] for s, v in values.items()})
        else:
            self._add(names, values)
        return self._as_given(values)

    def _check_filled(self, names: Sequence[bytes] | None, autocast: torch.dtype | None) -> None:
        if names is None:
            why = "something replaces the images between the loader and the model"
        elif autocast != self._autocast:
            why = f"the autocast changed from {self._autocast} to {autocast}"
        elif any(name not in self.store for name in names):
            why = "the loader has data that were not there when the experience began"
        else:
            return
        raise ValueError(f"teacher_cache='clean' has no answer: {why}; pass teacher_cache='off'")

    def _seen(self, values: Rows) -> Rows:
        self._kinds = {source: rows.dtype for source, rows in values.items()}
        return self.store.rounded(values)

    def _as_given(self, values: Rows) -> Rows:
        return {s: v.to(self._kinds.get(s, v.dtype)) for s, v in values.items()}

    def _add(self, names: Sequence[bytes], values: Rows) -> None:
        if self._file is None or self._file.writable:
            self.store.add(names, values)

    # ---- its life ---------------------------------------------------------------------

    def _begin(self, autocast: torch.dtype | None) -> None:
        self._begun, self._autocast = True, autocast
        self._file = self._open(autocast) if self._open else None
        if self._file is not None:
            self.store = FeatureStore(self.store.capacity, self.store.dtype, self._file.allocate)
            self.store.slots, self.store.rows, self._kinds = self._file.read()
        if self._fill is not None:
            for names, values in self._fill(autocast):
                self.store.add(names, self._seen(values))

    def end_epoch(self) -> None:
        """Make what is in a file last; look whether batches were what had been named.

        Raises:
            ValueError: when they were not.
        """
        changed, self._changed = self._changed, None
        if changed is not None and bool(changed):
            raise ValueError(
                "images were changed on their way from the loader to the model, so the teacher's "
                "cache gave answers for others: pass teacher_cache='off'"
            )
        self._flush()

    def _flush(self) -> None:
        if self._file is not None and self._file.writable:
            self._file.write_index(self.store.slots, self.store.rows, self._kinds)

    def close(self) -> None:
        """Let go of the rows and the file; what was not flushed is computed again."""
        if self._file is not None:
            self._file.close()
        self.store, self._file = FeatureStore(0), None

    # ---- what is saved ----------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Names and rows, or the file that they are in."""
        state: dict[str, Any] = {"begun": self._begun, "autocast": str(self._autocast)}
        if self._fill is not None:  # computed again, to the same values
            return {**state, "begun": False}
        if self._file is not None:
            self._flush()
            return {**state, "file": self._file.name}
        kinds = {str(source): str(kind) for source, kind in self._kinds.items()}
        return {**state, **self.store.state_dict(), "kinds": kinds}

    def load_state_dict(
        self, state: Mapping[str, Any], places: Sequence[FeatureSource], device: torch.device
    ) -> None:
        """Go on from ``state``, of the same teacher and places."""
        if not state["begun"] or "file" in state:  # the file is opened as it was
            return
        kinds = {str(kind): kind for kind in (torch.float32, torch.float16, torch.bfloat16,
                                              torch.float64)}  # fmt: skip
        self._begun, self._autocast = True, kinds.get(state["autocast"])
        self._kinds = {place: kinds[state["kinds"][str(place)]] for place in places
                       if str(place) in state["kinds"]}  # fmt: skip
        self.store.load_state_dict(state, places, device)
