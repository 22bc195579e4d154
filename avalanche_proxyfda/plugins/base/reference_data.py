"""Terms on reference data, beside the terms on the training batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from avalanche_proxyfda._checks import named_kind
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda._tensors import kept
from avalanche_proxyfda.data.reference import ReferenceBatch, ReferenceData
from avalanche_proxyfda.distributed.ranks import active
from avalanche_proxyfda.features.source import FeatureSource, unwrap
from avalanche_proxyfda.plugins.base.auto_weight import AutoWeight, Weight
from avalanche_proxyfda.plugins.base.beside import Beside
from avalanche_proxyfda.plugins.base.lifecycle import TeacherChoice, Terms
from avalanche_proxyfda.plugins.base.reference_needs import check_needs
from avalanche_proxyfda.plugins.base.reference_pass import ReferencePass
from avalanche_proxyfda.plugins.base.reference_texts import padded, tower_for
from avalanche_proxyfda.plugins.base.terms import TermLog
from avalanche_proxyfda.plugins.base.weighted import WeightedPlugin
from avalanche_proxyfda.strategies.precision import autocast_dtype
from avalanche_proxyfda.teacher.cache import CacheSettings
from avalanche_proxyfda.teacher.cached import CachedTeacher
from avalanche_proxyfda.teacher.reference import ReferenceAnswers
from avalanche_proxyfda.teacher.teacher import Values

_SAME = "the teacher of the first experience"


class ReferenceDataPlugin(WeightedPlugin):
    """Adds a method's terms on reference data to those on the training batch.

    All plugins with the same :class:`ReferenceData` share one student forward a step, and all
    with the same teacher share its values. With accumulation, each micro-batch has a reference
    batch of its own.

    Args:
        weight, choice, teacher_decay, feature_module, name: see :class:`WeightedPlugin`.
        reference_data: unlabelled images, on which the plugin adds its terms too, as
            ``reference_<term>``; the student runs a second forward each step. Plugins that get
            the same object share the forward. None compares on the training batch alone.
        reference_weight, auto_weight: see :class:`WeightedPlugin`.
    """

    reads_training_batch: bool = True
    """False for a method on reference data alone, which then needs ``reference_data``."""
    reads_texts: ClassVar[bool] = False
    """True for a method that compares with the reference texts, and needs them."""
    reads_student_texts: bool = True
    """False for a method that compares with the teacher's texts alone."""
    also_initial: ClassVar[bool] = False
    """True for a method that reads the model as given beside the previous model."""

    cache: CacheSettings
    sources: tuple[FeatureSource, ...]
    teacher_forwards: int
    cache_lookups: int
    cache_hits: int
    least_samples: int

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        choice: TeacherChoice,
        teacher_decay: float | None = None,
        feature_module: str | None = None,
        name: str | None = None,
        reference_data: ReferenceData | None = None,
        reference_weight: Weight | None = None,
        auto_weight: AutoWeight | None = None,
    ) -> None:
        super().__init__(
            weight,
            choice=choice,
            teacher_decay=teacher_decay,
            feature_module=feature_module,
            name=name,
            reference_weight=reference_weight,
            auto_weight=auto_weight,
        )
        if reference_data is not None and not isinstance(reference_data, ReferenceData):
            raise TypeError(
                f"reference_data is {named_kind(reference_data)}: pass ReferenceData(images), "
                "or None"
            )
        self._check_needs(reference_data, reference_weight)
        self.reference_data = reference_data
        self.reference_forwards = 0
        """Student forwards on reference images; a shared one counts for the plugin that ran it."""
        self.reference_text_forwards = 0
        """Forwards of the student's text tower on reference texts, likewise."""
        self.initial_reference: CachedTeacher | None = None
        """The model as given, with ``also_initial``, during an experience."""
        if choice == "averaged" and self.needs_text():
            raise ValueError(
                "teacher='averaged' averages no text tower, and the reference texts are token ids: "
                "take teacher='previous' or 'initial', or give text features, float [M, D]"
            )
        self._pass: ReferencePass | None = None
        self._answers: dict[str, ReferenceAnswers] = {}  # of "teacher" and "initial"
        self._reference_log = TermLog()
        self._reference_step = 0  # of the experience, also after a resume

    def _check_needs(self, data: ReferenceData | None, weight: Weight | None) -> None:
        """Raise ValueError if the method lacks the reference data or the texts that it needs."""
        check_needs(self, data, weight)

    # ---- methods of a subclass --------------------------------------------------------

    def needs_text(self) -> bool:
        """Return True to have ``self.teacher.text``, a copy of a trained text tower."""
        data = self.reference_data
        return self.reads_texts and data is not None and data.tokens is not None

    def compare_reference(self, student: Any, teacher: Any, beside: Beside) -> Terms:
        """Return the named terms of a batch of reference images; here those of ``compare``.

        :attr:`weight` is the weight of the reference terms inside this method.

        Args:
            student: the result of ``read`` for the student; carries the gradient.
            teacher: the result of ``read`` for the teacher.
            beside: texts, and values of the model as given.
        """
        terms: Terms = self.compare(student, teacher)
        return terms

    @abstractmethod
    def compare(self, student: Any, teacher: Any) -> Terms:
        """Return the named terms of a batch."""

    @abstractmethod
    def read(self, values: Values) -> Any:
        """Turn the values of the places into the input of :meth:`compare`."""

    @abstractmethod
    def check_student(self, values: Values, batch: int) -> None:
        """Raise ValueError if a place does not hold the whole batch."""

    @abstractmethod
    def checked_places(self, model: nn.Module) -> tuple[FeatureSource, ...]:
        """Return the places that the method reads."""

    @abstractmethod
    def shared_places(self, strategy: Strategy) -> list[FeatureSource]:
        """Return the places of all plugins with the same teacher."""

    # ---- an experience ----------------------------------------------------------------

    def before_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Refuse reference data on several ranks."""
        super().before_training(strategy, **kwargs)
        if self.reference_data is not None and active():
            raise ValueError(
                f"{self.name} has reference_data, which one process compares alone: train in a "
                "single process, or leave reference_data out"
            )

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Share or make the student's pass and the teachers' values of the reference data."""
        saved = self.pending.get("reference_data") or {}
        inside = bool(self.pending.get("inside"))
        super().before_training_exp(strategy, **kwargs)
        if self.reference_data is None:
            return
        self._check_saved(self.reference_data, saved)
        resumed = saved if inside else {}
        self._reference_step = int(resumed.get("step", 0))
        if "terms" in resumed:
            self._reference_log.load_state_dict(resumed["terms"], strategy.device)
        assert self.reference is not None
        teachers = {"teacher": self.reference}
        if self.also_initial:
            self.initial_reference = self._find_initial(strategy, saved)
            teachers["initial"] = self.initial_reference
        kept, self._answers = self._answers, {}
        for role, teacher in teachers.items():
            lives = inside or role == "initial" or self.choice == "initial"
            state = saved.get("answers", {}).get(role) if lives else None
            self._answers[role] = self._answers_of(strategy, teacher, kept, state)
        self._pass = self._find_pass(strategy, resumed.get("safe", ()))

    def _check_saved(self, data: ReferenceData, saved: Mapping[str, Any]) -> None:
        about = data.about() if saved else {}
        if any(about[name] != value for name, value in saved.get("about", {}).items()):
            raise ValueError(
                f"the loaded state of {self.name} belongs to reference data of {saved['about']}, "
                f"and this plugin has {about}: give it the same reference_data"
            )

    def _find_pass(self, strategy: Strategy, safe: Iterable[tuple[Any, ...]]) -> ReferencePass:
        """Return the pass of another plugin with the same data, or a new one for all of them."""
        assert self.reference_data is not None
        for plugin in self.plugins_before(strategy):
            made = plugin._pass if isinstance(plugin, ReferenceDataPlugin) else None
            if made is not None and made.data is self.reference_data:
                return made
        model = unwrap(strategy.model)
        sharers = [p for p in strategy.plugins if isinstance(p, ReferenceDataPlugin)]
        places = [
            place
            for plugin in sharers
            if plugin.reference_data is self.reference_data
            for place in plugin.checked_places(model)
        ]
        made = ReferencePass(self.reference_data, model, places)
        made.capture.trust(safe)
        return made

    def _answers_of(
        self,
        strategy: Strategy,
        teacher: CachedTeacher,
        kept: Mapping[str, ReferenceAnswers],
        saved: Mapping[str, Any] | None,
    ) -> ReferenceAnswers:
        """Return the values of a teacher: those in use, or those of a saved state, or new ones."""
        data = self.reference_data
        assert data is not None
        others = [p for p in self.plugins_before(strategy) if isinstance(p, ReferenceDataPlugin)]
        in_use = [*kept.values(), *self._answers.values()]
        for answers in (*in_use, *(a for p in others for a in p._answers.values())):
            if answers.teacher is teacher and answers.data is data:
                break
        else:
            answers = ReferenceAnswers(teacher, data, self.cache, saved)
        if self.reads_texts:  # a checkpoint holds them on the CPU
            texts = answers.texts
            texts = self._teacher_texts(strategy, teacher, data) if texts is None else texts
            answers.texts = texts.to(strategy.device)
        return answers

    def _teacher_texts(
        self, strategy: Strategy, teacher: CachedTeacher, data: ReferenceData
    ) -> Tensor:
        """Return the text features of a teacher; the student's own for float features."""
        assert data.texts is not None
        if data.tokens is None:
            return data.texts.to(strategy.device)
        tower = tower_for(strategy.model, data)
        if teacher.text is None:
            raise ValueError(
                f"{self.name} reads reference texts of a teacher that was taken without them: "
                "list the plugin from the first experience on"
            )
        return kept(teacher.text_embeddings(padded(tower, data.tokens), autocast_dtype(strategy)))

    def _find_initial(self, strategy: Strategy, saved: Mapping[str, Any]) -> CachedTeacher:
        """Return the model as given: kept, shared, restored, or the teacher of the first one."""
        assert self.reference is not None
        if self.choice == "initial":
            return self.reference
        if self.initial_reference is not None:
            return self.initial_reference
        for plugin in self.plugins_before(strategy):
            if isinstance(plugin, ReferenceDataPlugin):
                own = plugin.reference if plugin.choice == "initial" else plugin.initial_reference
                if own is None or (self.needs_text() and not own.teacher.needs_text):
                    continue
                if set(self.sources) <= set(own.sources):
                    return own
        state = saved.get("initial")
        if state is not None and state != _SAME:
            places, texts = self.shared_places(strategy), self.needs_text()
            return CachedTeacher.restore(strategy.model, places, state, texts)
        if self.choice == "averaged":  # this teacher moves from the first step on
            return self.make_reference(strategy)
        return self.reference

    # ---- a step -----------------------------------------------------------------------

    def add_reference(self, strategy: Strategy, autocast: torch.dtype | None) -> None:
        """Add the terms on the step's batch of reference images to the strategy's loss.

        Args:
            strategy: in ``before_backward``.
            autocast: dtype of the student's autocast; None without autocast.
        """
        shared, experience = self._pass, strategy.clock.train_exp_counter
        if shared is None:
            return
        batch = shared.begin(strategy, experience, self._reference_step)
        before, texts_before = shared.forwards, shared.text_forwards
        values = shared.values(autocast)
        self.reference_forwards += shared.forwards - before
        own = {place: value for place, value in values.items() if place in self.sources}
        self.check_student(own, len(batch.images))
        asked = {role: self._ask(a, batch, autocast) for role, a in self._answers.items()}
        beside = Beside(
            batch.numbers,
            shared.texts(autocast) if self.reads_texts and self.reads_student_texts else None,
            self._answers["teacher"].texts if self.reads_texts else None,
            self.read(asked["initial"]) if self.also_initial else None,
            self._answers["initial"].texts if self.also_initial and self.reads_texts else None,
        )
        self.reference_text_forwards += shared.text_forwards - texts_before
        weight = self.weight
        self.weight = weight if self.reference_weight is None else self.reference_weight
        self.on_reference = True
        try:
            terms = self.measured(
                lambda student, known: self.compare_reference(student, known, beside),
                self.read(own),
                self.read(asked["teacher"]),
            )
        finally:
            self.weight, self.on_reference = weight, False
        weighed = self.weighed(strategy, terms, on_reference=True)
        named = {f"reference_{name}": term for name, term in weighed.items()}
        self.add(strategy, named, self._reference_log)

    def _ask(
        self, answers: ReferenceAnswers, batch: ReferenceBatch, autocast: torch.dtype | None
    ) -> Values:
        """Return a teacher's values, and count its forwards and look-ups."""
        counts = answers.counts()
        values = answers.values(batch, autocast)
        forwards, lookups, hits = (
            new - old for new, old in zip(answers.counts(), counts, strict=True)
        )
        self.teacher_forwards += forwards
        self.cache_lookups += lookups
        self.cache_hits += hits
        return values

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Forget the batch of reference images, and count the step."""
        self._reference_step += 1
        if self._pass is not None:
            self._pass.forget()
        for answers in self._answers.values():
            answers.forget()

    # ---- after ------------------------------------------------------------------------

    def means(self) -> dict[str, float]:
        """Return the means of the terms, those on reference data included."""
        means = super().means() | self._reference_log.means()
        self._reference_log.clear()
        return means

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """End an experience; drop the values of a teacher that no later experience needs."""
        super().after_training_exp(strategy, **kwargs)
        kept = {"teacher": self.reference, "initial": self.initial_reference}
        self._answers = {r: a for r, a in self._answers.items() if a.teacher is kept[r]}

    def stop(self) -> None:
        """End an experience, also after an exception; release the student."""
        super().stop()
        self._pass = None
        self._reference_log.clear()
        for answers in self._answers.values():
            answers.forget()

    # ---- saved state ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base; with reference data, also under ``"reference_data"``."""
        state = super().state_dict()
        if self.reference_data is None:
            return state
        if self.pending.get("reference_data"):
            return {**state, "reference_data": self.pending["reference_data"]}
        initial: Any = None
        if self.initial_reference is not None:
            same = self.initial_reference is self.reference
            initial = _SAME if same else self.initial_reference.state_dict()
        own = {
            "about": self.reference_data.about(),
            "step": self._reference_step,
            "forwards": self.reference_forwards,
            "text_forwards": self.reference_text_forwards,
            "safe": self._pass.capture.safe if self._pass else [],
            "terms": self._reference_log.state_dict(),
            "initial": initial,
            "answers": {role: answers.state_dict() for role, answers in self._answers.items()},
        }
        return {**state, "reference_data": own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        super().load_state_dict(state)
        self.initial_reference, self._answers = None, {}
        counts = state.get("reference_data") or {}
        self.reference_forwards = counts.get("forwards", 0)
        self.reference_text_forwards = counts.get("text_forwards", 0)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without the student, for pickling between experiences."""
        return {**super().__getstate__(), "_pass": None}
