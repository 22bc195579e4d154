"""Methods that compare what the student and a teacher make of the same batch."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypedDict

import torch
from avalanche.models.utils import avalanche_forward
from torch import Tensor, nn

from avalanche_proxyfda.cache import CacheChoice, CacheSettings
from avalanche_proxyfda.cache.settings import CacheDtype
from avalanche_proxyfda.distributed.plugin import batch_size, shard_of
from avalanche_proxyfda.distributed.ranks import Shard
from avalanche_proxyfda.feature_source import FeatureSource, unwrap
from avalanche_proxyfda.features import FeatureTap
from avalanche_proxyfda.losses.base import check_amount
from avalanche_proxyfda.plugins.caching import name_batch, plan_cache, replay_views
from avalanche_proxyfda.plugins.reference import ReferenceChoice, ReferencePlugin, Terms
from avalanche_proxyfda.teacher import FeatureTeacher, Named, Values

TeacherChoice = ReferenceChoice
_log = logging.getLogger(__name__)
_COUNTS = (
    "skipped", "_skipped_before", "teacher_forwards", "cache_lookups", "cache_hits", "_counted",
)  # fmt: skip


class FeatureOptions(TypedDict, total=False):
    """Keyword arguments of every plugin that asks a teacher; see :class:`FeaturePlugin`."""

    name: str | None
    teacher_cache: CacheChoice
    cache_views: int | None
    cache_bytes: int
    cache_dir: str | os.PathLike[str] | None
    cache_dtype: CacheDtype | None


class FeaturePlugin(ReferencePlugin[FeatureTeacher]):
    """Reads places of the student in its own forward, and the same places of a teacher.

    A step costs the student's own forward and one teacher forward, which all plugins of
    the strategy that ask for the same teacher share, whatever places they read. Samples
    that the teacher has seen before cost no forward while it has a cache: docs/teacher-cache.md.

    Args:
        feature_module, name: see :class:`ReferencePlugin`.
        weight: lambda, the coefficient of the method's term.
        teacher: its ``choice``.
        teacher_cache: ``"exact"`` keeps the teacher's values by the pixels that they are of,
            within an experience; ``"auto"`` does so where views come again and fit; ``"clean"``
            shows the teacher the evaluation view of each sample, once, which is another method;
            ``"off"`` asks the teacher every time.
        cache_views: random transforms then give this many views of a sample in turn, the
            same whenever they come again; None leaves them as they are.
        cache_bytes: the most that a cache may take.
        cache_dir: a folder for a memory-mapped file, which later runs with the same teacher,
            data and views use as well; None keeps the values in the device's memory.
        cache_dtype: ``"float16"`` halves a cache, and rounds; None keeps values as they are.
    """

    option = "teacher"
    place_option: ClassVar[str] = "feature_module"
    """What the argument that names the places is called, for messages."""
    least_samples = 1
    """Batches of fewer samples have nothing to compare; they are skipped and counted."""

    def __init__(
        self,
        feature_module: str | None = None,
        weight: float = 1.0,
        teacher: TeacherChoice = "previous",
        *,
        name: str | None = None,
        teacher_cache: CacheChoice = "auto",
        cache_views: int | None = None,
        cache_bytes: int = 2**31,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_dtype: CacheDtype | None = None,
    ) -> None:
        super().__init__(feature_module, teacher, name)
        self.weight = check_amount("weight", weight)
        self.cache = CacheSettings(teacher_cache, cache_views, cache_bytes, cache_dir, cache_dtype)
        self.cache_lookups = self.cache_hits = 0
        """Samples that this plugin asked a cache for, and those of them that cost no forward."""
        self._counted = (0, 0)  # of these, before this epoch
        self._epoch = 0  # of the experience, a resumed one included
        self.view_seed = 0
        """Names the random streams of replayed views: torch's initial seed."""
        self.sources: tuple[FeatureSource, ...] = ()
        self.skipped = 0
        """Batches so far in which there was nothing to compare."""
        self.teacher_forwards = 0
        """Teacher forwards that this plugin caused; one that it shares counts where it was made."""
        self._tap: FeatureTap | None = None
        self._student: Values | None = None
        self._shard: Shard | None = None
        self._skipped_before = 0  # this epoch

    @property
    def teacher(self) -> FeatureTeacher | None:
        """The frozen teacher, while there is one."""
        return self.reference

    # ---- what a method says -----------------------------------------------------------

    @abstractmethod
    def places(self, model: nn.Module) -> tuple[FeatureSource, ...]:
        """What the method reads of ``model`` (unwrapped)."""

    @abstractmethod
    def compare(self, student: Values, teacher: Values) -> Terms:
        """Named terms of a batch, from what the places hold."""

    def is_active(self) -> bool:
        """Whether there is anything to compare in this experience."""
        return True

    def check_student(self, values: Values, batch: int) -> None:
        """Raise ValueError when a place does not hold the whole batch."""

    # ---- the teacher ------------------------------------------------------------------

    def make_reference(self, strategy: Any) -> FeatureTeacher:
        """A teacher that reads what this plugin and its fellows need."""
        return FeatureTeacher(strategy.model, self._all_places(strategy))

    def restore_reference(self, strategy: Any, state: Any) -> FeatureTeacher:
        """The teacher of a saved state."""
        return FeatureTeacher.restore(strategy.model, self._all_places(strategy), state)

    def reference_state(self, reference: FeatureTeacher) -> Any:
        """Its weights and buffers."""
        return reference.state_dict()

    def _all_places(self, strategy: Any) -> list[FeatureSource]:
        model = unwrap(strategy.model)
        fellows = [p for p in strategy.plugins if isinstance(p, FeaturePlugin)]
        return [s for p in fellows if p.choice == self.choice for s in p.checked_places(model)]

    def checked_places(self, model: nn.Module) -> tuple[FeatureSource, ...]:
        """:meth:`places`, all of which are there; raises ValueError naming the argument."""
        sources = self.places(model)
        for source in sources:
            source.find(model, self.place_option)
        return sources

    def shares_reference_with(self, other: ReferencePlugin[Any]) -> bool:
        """Whether this plugin's teacher is the one that ``other`` needs, places included."""
        if not isinstance(other, FeaturePlugin) or not super().shares_reference_with(other):
            return False
        return self.reference is not None and set(other.sources) <= set(self.reference.sources)

    def ask_teacher(
        self, tasks: Any, autocast: torch.dtype | None = None, named: Named | None = None
    ) -> Callable[[Tensor], Values]:
        """The teacher as a function of images; a whole model may want their task labels."""
        teacher = self.reference
        assert teacher is not None

        def ask(images: Tensor) -> Values:
            earlier, cache = teacher.forwards, teacher.cache
            known = (0, 0) if cache is None else (cache.lookups, cache.hits)
            values = teacher.values(
                images, autocast, lambda m, x: avalanche_forward(m, x, tasks), named
            )
            self.teacher_forwards += teacher.forwards - earlier
            if cache is not None:
                self.cache_lookups += cache.lookups - known[0]
                self.cache_hits += cache.hits - known[1]
            return values

        return ask

    # ---- an experience ----------------------------------------------------------------

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Take the teacher, and start to read the student."""
        model = unwrap(strategy.model)
        self.sources = self.checked_places(model)
        if self.named is None:
            _log.info("%s reads %s", self.name, ", ".join(map(repr, map(str, self.sources))))
        self._check_fellows(strategy)
        begun = self.pending if self.pending.get("inside") else {}
        self._epoch = begun.get("epoch", 0)
        self.view_seed = begun.get("view_seed", torch.initial_seed() % 2**62)
        super().before_training_exp(strategy, **kwargs)
        self._tap = FeatureTap(self.sources)
        self._tap.capture.trust(begun.get("safe", ()))
        self._tap.attach(model)

    def _check_fellows(self, strategy: Any) -> None:
        """Refuse plugins that want different things of one teacher or of the batches."""
        for fellow in strategy.plugins[: strategy.plugins.index(self)]:
            if not isinstance(fellow, FeaturePlugin):
                continue
            if fellow.choice == self.choice and fellow.cache != self.cache:
                raise ValueError(
                    f"{fellow.name} and {self.name} share a teacher, but not what is said of its "
                    f"cache: {fellow.cache} and {self.cache}; give both the same teacher_cache and "
                    "cache_… arguments"
                )
            if None not in (both := {fellow.cache.views, self.cache.views}) and len(both) > 1:
                raise ValueError(
                    f"cache_views is {fellow.cache.views} for {fellow.name} and "
                    f"{self.cache.views} for {self.name}, which train on the same views: "
                    "give both the same"
                )

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Have views come again if that was asked for; decide on the teacher's cache, once."""
        if self.cache.views is not None:
            replay_views(strategy, self.cache.views, self.view_seed, self._epoch)
        if self.is_active():
            plan_cache(self, strategy, kwargs)

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Start to read: the next forward is the student's."""
        if self._tap is not None:
            self._tap.arm()

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Keep what the student's places hold."""
        assert self._tap is not None
        self._student = self._tap.take()
        self.check_student(self._student, len(strategy.mb_x))

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Ask the teacher about the same batch and add the terms to the strategy's loss."""
        student, self._student = self._student, None
        assert student is not None
        assert self._tap is not None
        if not self.is_active():
            return
        if batch_size(strategy) < self.least_samples:
            self.skipped += 1
            return
        self._shard = shard_of(strategy)
        self.add(strategy, self.compare(student, self.ask(strategy)))

    def ask(self, strategy: Any) -> Values:
        """What the teacher's places hold for the strategy's present batch."""
        assert self._tap is not None
        tasks = strategy.mbatch[-1] if len(strategy.mbatch) > 2 else 0
        named = name_batch(self.reference, strategy.mbatch)
        return self.ask_teacher(tasks, self._tap.autocast, named)(strategy.mb_x)

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Forget the batch."""
        if self.reference is not None:
            self.reference.forget()

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Publish the terms' means; make what the cache has last."""
        if self.reference is not None and self.reference.cache is not None:
            self.reference.cache.end_epoch()
        super().after_training_epoch(strategy, **kwargs)
        self._epoch += 1

    def means(self) -> dict[str, float]:
        """The terms' means; batches that were skipped, and the cache's hit rate, if any."""
        means = super().means()
        lookups, hits = (
            now - then
            for now, then in zip((self.cache_lookups, self.cache_hits), self._counted, strict=True)
        )
        self._counted = (self.cache_lookups, self.cache_hits)
        if lookups:
            means["cache_hit_rate"] = hits / lookups
        if self.skipped > self._skipped_before:
            means["skipped_batches"] = float(self.skipped - self._skipped_before)
        self._skipped_before = self.skipped
        return means

    def stop(self) -> None:
        """Take the hooks off and forget the batch."""
        super().stop()
        if self._tap is not None:
            self._tap.detach()
        self._tap = self._student = None
        if self.reference is not None:
            self.reference.forget()
            self.reference.end_cache()

    # ---- what is saved ----------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The reference, what was counted, and which views come next."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        own = {
            "epoch": self._epoch,
            "view_seed": self.view_seed,
            "safe": self._tap.capture.safe if self._tap else [],
        }
        kept = {name: self.pending.get(name, value) for name, value in own.items()}
        return {**super().state_dict(), "counts": counts, **kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        super().load_state_dict(state)
        for name in _COUNTS:
            setattr(self, name, state["counts"][name])

    def __getstate__(self) -> dict[str, Any]:
        """For pickling between experiences: no hooks, no batch."""
        return {**super().__getstate__(), "_tap": None, "_student": None}


def check_rows(rows: int, batch: int, name: str) -> None:
    """Raise ValueError unless a place gave one row a sample."""
    if rows != batch:
        raise ValueError(
            f"{name!r} gave {rows} rows for a batch of {batch}: it does not see "
            "the batch as a whole (a multi-task model that splits it by task, for example); "
            "name a module before that"
        )
