"""The base of methods that compare a student with a teacher on the same batch."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from avalanche.models.utils import avalanche_forward
from torch import Tensor, nn

from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.data.views import replay_views
from avalanche_proxyfda.distributed.plugin import shard_of
from avalanche_proxyfda.features.presets import find_feature_source
from avalanche_proxyfda.features.source import FeatureSource, unwrap
from avalanche_proxyfda.features.tap import FeatureTap
from avalanche_proxyfda.plugins.base.auto_weight import AutoWeight, Weight
from avalanche_proxyfda.plugins.base.first_batch import lacks_samples
from avalanche_proxyfda.plugins.base.lifecycle import ReferencePlugin, TeacherChoice, Terms
from avalanche_proxyfda.plugins.base.options import FeatureOptions as FeatureOptions
from avalanche_proxyfda.plugins.base.options import TeacherOptions as TeacherOptions
from avalanche_proxyfda.plugins.base.reference_data import ReferenceDataPlugin
from avalanche_proxyfda.plugins.base.rows import check_rows as check_rows
from avalanche_proxyfda.plugins.base.shared import check_shared
from avalanche_proxyfda.teacher.cache import CacheChoice, CacheSettings
from avalanche_proxyfda.teacher.cache.planning import name_batch, plan_cache
from avalanche_proxyfda.teacher.cache.settings import CacheDtype
from avalanche_proxyfda.teacher.cached import CachedTeacher, Named
from avalanche_proxyfda.teacher.teacher import FeatureTeacher, Values

_log = logging.getLogger(__name__)
_SAVED_COUNTS = (
    "skipped",
    "_skipped_before",
    "teacher_forwards",
    "cache_lookups",
    "cache_hits",
    "_counted",
)


class FeaturePlugin(ReferenceDataPlugin):
    """Reads places of the student in its own forward, and the same places of a teacher.

    A step costs the student's forward and one teacher forward. All plugins of the strategy
    with the same teacher share the teacher forward, for any places. Samples in the teacher's
    cache cost no forward: docs/teacher-cache.md.

    A method implements :meth:`compare`, and :meth:`places`.

    Args:
        weight, auto_weight, name: see :class:`WeightedPlugin`.
        feature_module: the embedding that is compared: ``"NAME"``, the output of that module of
            the model, or ``"NAME:input"``, its input. None takes a preset, see
            :func:`~avalanche_proxyfda.features.presets.find_feature_source`.
        teacher: ``"previous"``, the model at the end of the experience before (for the first
            experience: as given), ``"initial"``, always the model as given, or ``"averaged"``,
            the student's moving average, which begins each experience at the model as it stands.
        teacher_decay: decay of the averaged teacher, in [0, 1); None takes 0.999.
        teacher_cache: ``"exact"`` caches the teacher's values within an experience, keyed by a
            hash of the pixels. ``"auto"`` does so if the same views come back and the cache
            fits. ``"clean"`` caches the evaluation view of each sample, which is another
            method. ``"off"`` runs the teacher every time.
        cache_views: number of views that random transforms give of each sample, in turn and
            always the same; None leaves random transforms as they are.
        cache_bytes: upper limit of the size of a cache.
        cache_dir: folder of a memory-mapped file, which later runs with the same teacher, data
            and views use too; None caches in the device's memory.
        cache_dtype: ``"float16"`` halves a cache and rounds its values; None caches values as
            they are.
    """

    option = "teacher"
    place_option: ClassVar[str] = "feature_module"
    """Name of the argument that gives the places, for messages."""
    least_samples = 1
    """Smaller batches have nothing to compare; the plugin skips and counts them."""

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        feature_module: str | None = None,
        teacher: TeacherChoice = "previous",
        teacher_decay: float | None = None,
        name: str | None = None,
        teacher_cache: CacheChoice = "auto",
        cache_views: int | None = None,
        cache_bytes: int = 2**31,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_dtype: CacheDtype | None = None,
        reference_data: ReferenceData | None = None,
        reference_weight: Weight | None = None,
        auto_weight: AutoWeight | None = None,
    ) -> None:
        super().__init__(
            weight,
            choice=teacher,
            teacher_decay=teacher_decay,
            feature_module=feature_module,
            name=name,
            reference_data=reference_data,
            reference_weight=reference_weight,
            auto_weight=auto_weight,
        )
        teacher_cache = self.cache_choice(teacher_cache)
        self.cache = CacheSettings(teacher_cache, cache_views, cache_bytes, cache_dir, cache_dtype)
        self.cache_lookups = self.cache_hits = 0
        """Samples that this plugin looked up in a cache, and samples that it got from there."""
        self._counted = (0, 0)  # lookups and hits before this epoch
        self._epoch = 0  # of the experience, also after a resume
        self.view_seed = 0
        """Seed of the random streams of replayed views: torch's initial seed."""
        self.sources: tuple[FeatureSource, ...] = ()
        self.skipped = 0
        """Batches so far with nothing to compare."""
        self.teacher_forwards = 0
        """Teacher forwards of this plugin; a shared forward counts for the plugin that ran it."""
        self._tap: FeatureTap | None = None
        self._student: Values | None = None
        self._skipped_before = 0  # skipped batches before this epoch

    @property
    def teacher(self) -> CachedTeacher | None:
        """The frozen teacher, during an experience."""
        return self.reference

    # ---- methods of a subclass --------------------------------------------------------

    @abstractmethod
    def places(self, model: nn.Module) -> tuple[FeatureSource, ...]:
        """Return the places of ``model`` (unwrapped) that the method reads."""

    @abstractmethod
    def compare(self, student: Any, teacher: Any) -> Terms:
        """Return the named terms of a batch.

        Args:
            student: the result of :meth:`read` for the student; carries the gradient.
            teacher: the result of :meth:`read` for the teacher.
        """

    def read(self, values: Values) -> Any:
        """Turn the values of the places into the input of :meth:`compare`; here unchanged."""
        return values

    def is_active(self) -> bool:
        """Return True if this experience has something to compare."""
        return True

    def check_student(self, values: Values, batch: int) -> None:
        """Raise ValueError if a place does not hold the whole batch; the base accepts all."""

    # ---- the teacher ------------------------------------------------------------------

    def make_reference(self, strategy: Strategy) -> CachedTeacher:
        """Return a teacher that reads the places of all plugins with the same teacher."""
        places, texts = self.shared_places(strategy), self._share_text(strategy)
        return CachedTeacher(FeatureTeacher(strategy.model, places, needs_text=texts))

    def restore_reference(self, strategy: Strategy, state: Any) -> CachedTeacher:
        """Return the teacher of a saved state."""
        places, texts = self.shared_places(strategy), self._share_text(strategy)
        return CachedTeacher.restore(strategy.model, places, state, texts)

    def reference_state(self, reference: CachedTeacher) -> Any:
        """Return the teacher's weights and buffers."""
        return reference.state_dict()

    def shared_places(self, strategy: Strategy) -> list[FeatureSource]:
        """Return the places of all plugins with the same teacher."""
        model, plugins = unwrap(strategy.model), self._sharers(strategy)
        return [source for plugin in plugins for source in plugin.checked_places(model)]

    def _share_text(self, strategy: Strategy) -> bool:
        """Return True if a plugin with the same teacher needs the teacher's text tower."""
        return any(plugin.needs_text() for plugin in self._sharers(strategy))

    def _sharers(self, strategy: Strategy) -> list[FeaturePlugin]:
        plugins = [p for p in strategy.plugins if isinstance(p, FeaturePlugin)]
        return [plugin for plugin in plugins if plugin.choice == self.choice]

    def checked_places(self, model: nn.Module) -> tuple[FeatureSource, ...]:
        """Return :meth:`places`; raise ValueError with the argument's name if one is missing."""
        sources = self.places(model)
        preset = find_feature_source if self.place_option == "feature_module" else None
        for source in sources:
            source.find(model, self.place_option, preset)
        return sources

    def shares_reference_with(self, other: ReferencePlugin[Any]) -> bool:
        """Return True if ``other`` can use this plugin's teacher, which reads its places."""
        if not isinstance(other, FeaturePlugin) or not super().shares_reference_with(other):
            return False
        mine = self.reference
        if mine is None or (other.needs_text() and not mine.teacher.needs_text):
            return False
        return set(other.sources) <= set(mine.sources)

    def ask_teacher(
        self, tasks: Any, autocast: torch.dtype | None = None, named: Named | None = None
    ) -> Callable[[Tensor], Values]:
        """Return the teacher as a function of images.

        Args:
            tasks: task labels of the images, for a whole model with a head for each task.
            autocast: dtype of the student's autocast; None without autocast.
            named: the samples' names, for the cache; None skips the cache.
        """
        teacher = self.reference
        assert teacher is not None

        def ask(images: Tensor) -> Values:
            forwards, cache = teacher.forwards, teacher.cache
            lookups, hits = (0, 0) if cache is None else (cache.lookups, cache.hits)
            values = teacher.values(
                images, autocast, lambda m, x: avalanche_forward(m, x, tasks), named
            )
            self.teacher_forwards += teacher.forwards - forwards
            if cache is not None:
                self.cache_lookups += cache.lookups - lookups
                self.cache_hits += cache.hits - hits
            return values

        return ask

    # ---- an experience ----------------------------------------------------------------

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Take the teacher, and attach the tap to the student."""
        model = unwrap(strategy.model)
        self.sources = self.checked_places(model)
        if self.named is None:
            _log.info("%s reads %s", self.name, ", ".join(map(repr, map(str, self.sources))))
        others = self.plugins_before(strategy)
        check_shared(self, [p for p in others if isinstance(p, FeaturePlugin)])
        resumed = self.pending if self.pending.get("inside") else {}
        self._epoch = resumed.get("epoch", 0)
        self.view_seed = resumed.get("view_seed", torch.initial_seed() % 2**62)
        super().before_training_exp(strategy, **kwargs)
        self._tap = FeatureTap(self.sources)
        self._tap.capture.trust(resumed.get("safe", ()))
        self._tap.attach(strategy.model)  # with its wrappers, which say that it is compiled

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Replay views if ``cache_views`` is set; plan the teacher's cache, once."""
        if self.cache.views is not None:
            replay_views(strategy, self.cache.views, self.view_seed, self._epoch)
        if self.is_active() and self.reads_training_batch:
            assert self.reference is not None
            plan_cache(
                self.reference,
                self.cache,
                strategy,
                kwargs,
                ask=self.ask_teacher,
                name=self.name,
                view_seed=self.view_seed,
            )

    def before_forward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Arm the tap: the next forward is the student's."""
        if self._tap is not None:
            self._tap.arm()

    def after_forward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Take the values of the student's places."""
        assert self._tap is not None
        self._student = self._tap.take()
        self.check_student(self._student, len(strategy.mb_x))

    def before_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Ask the teacher about the same batch, and add the terms to the strategy's loss."""
        super().before_backward(strategy, **kwargs)
        student, self._student = self._student, None
        assert student is not None
        if not self.is_active():
            return
        if self.reads_training_batch:
            self._add_training(strategy, student)
        assert self._tap is not None
        self.add_reference(strategy, self._tap.autocast)

    def _add_training(self, strategy: Strategy, student: Values) -> None:
        """Add the terms on the training batch, unless it is too small."""
        if lacks_samples(self, strategy, student):
            self.skipped += 1
            return
        self._shard = shard_of(strategy)
        teacher = self.ask(strategy)
        terms = self.measured(self.compare, self.read(student), self.read(teacher))
        self.add(strategy, self.weighed(strategy, terms))

    def ask(self, strategy: Strategy) -> Values:
        """Return the values of the teacher's places for the strategy's batch."""
        assert self._tap is not None
        tasks = strategy.mbatch[-1] if len(strategy.mbatch) > 2 else 0
        named = name_batch(self.reference, strategy.mbatch)
        return self.ask_teacher(tasks, self._tap.autocast, named)(strategy.mb_x)

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Forget the batch."""
        super().after_training_iteration(strategy, **kwargs)
        if self.reference is not None:
            self.reference.forget()

    def check_steps(self) -> None:
        """Read the checks of earlier steps, see :meth:`ReferencePlugin.check_steps`.

        Raises:
            ValueError: also if the images of a batch were not those that the cache has named.
        """
        if self.reference is not None and self.reference.cache is not None:
            self.reference.cache.check_images()
        super().check_steps()

    def after_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Publish the terms' means; write the cache's file, if it has one."""
        if self.reference is not None and self.reference.cache is not None:
            self.reference.cache.end_epoch()
        super().after_training_epoch(strategy, **kwargs)
        self._epoch += 1

    def means(self) -> dict[str, float]:
        """Return the terms' means, the number of skipped batches and the cache's hit rate.

        The last two are left out if there were no skipped batches and no cache.
        """
        means = super().means()
        lookups_before, hits_before = self._counted
        lookups, hits = self.cache_lookups - lookups_before, self.cache_hits - hits_before
        self._counted = (self.cache_lookups, self.cache_hits)
        if lookups:
            means["cache_hit_rate"] = hits / lookups
        if self.skipped > self._skipped_before:
            means["skipped_batches"] = float(self.skipped - self._skipped_before)
        self._skipped_before = self.skipped
        return means

    def stop(self) -> None:
        """End an experience; detach the tap, and forget the batch and the cache."""
        super().stop()
        if self._tap is not None:
            self._tap.detach()
        self._tap = self._student = None
        if self.reference is not None:
            self.reference.forget()
            self.reference.end_cache()

    # ---- saved state ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the reference, the counts, and the state of the replayed views."""
        counts = {name: getattr(self, name) for name in _SAVED_COUNTS}
        here = {
            "epoch": self._epoch,
            "view_seed": self.view_seed,
            "safe": self._tap.capture.safe if self._tap else [],
        }
        resumable = {name: self.pending.get(name, value) for name, value in here.items()}
        return {**super().state_dict(), "counts": counts, **resumable}

    def rank_state(self) -> dict[str, Any]:
        """Return the part of :meth:`state_dict` that differs between ranks: cache and counts."""
        state = self.state_dict()
        cache = (state["reference"] or {}).get("cache")
        if cache is not None and "rows" in cache:
            cache = {**cache, "rows": {k: rows.cpu() for k, rows in cache["rows"].items()}}
        return {"counts": state["counts"], "cache": cache}

    @staticmethod
    def of_rank(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
        """Return the state of rank 0 with the part of another rank."""
        reference = state["reference"]
        if reference is not None:
            reference = {**reference, "cache": own["cache"]}
        return {**state, "counts": own["counts"], "reference": reference}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        super().load_state_dict(state)
        for name in _SAVED_COUNTS:
            setattr(self, name, state["counts"][name])

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without hooks and batch, for pickling between experiences."""
        return {**super().__getstate__(), "_tap": None, "_student": None}
