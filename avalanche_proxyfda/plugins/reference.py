"""What every method here shares: a reference, the model as it stood earlier, to stay close to.

For methods on features and logits the reference is a teacher, for methods on weights a set
of anchors. This base knows when it is taken and whom it is shared with, what is refused,
how terms reach the strategy's loss and its metrics, and what is saved.
"""

from __future__ import annotations

import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast, get_args

from avalanche.training.plugins.strategy_plugin import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda.distributed.plugin import check_spread, share_of
from avalanche_proxyfda.feature_source import FeatureSource, find_feature_source, unwrap
from avalanche_proxyfda.plugins.terms import FiniteWatch, TermLog, publish

ReferenceChoice = Literal["previous", "initial"]
Terms = dict[str, tuple[float, Tensor]]
"""Name of a term: its coefficient in the strategy's loss, and its value (a scalar)."""

R = TypeVar("R")


class ReferencePlugin(SupervisedPlugin[Any], Generic[R], ABC):
    """Keeps a reference through the experiences, and adds terms to a strategy's loss.

    On several devices it needs :class:`~avalanche_proxyfda.distributed.DistributedTraining`,
    and then gives what a single process gives.

    Args:
        feature_module: ``"NAME"`` (what that module returns) or ``"NAME:input"`` (what it
            is given): the embedding. What comes after it is the head. None takes a preset.
        choice: ``"previous"``, the model as it stood when the experience before ended (for
            the first: as given), or ``"initial"``, the model as given, for ever.
        name: of the metrics; None takes the class's.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range.
    """

    def __init_subclass__(cls, supports_distributed: bool = False, **kwargs: Any) -> None:
        # Avalanche's own keyword, with its type
        super().__init_subclass__(supports_distributed=supports_distributed, **kwargs)

    option: ClassVar[str]
    """What the argument ``choice`` is called by the methods; plugins of one may share."""

    def __init__(
        self, feature_module: str | None, choice: ReferenceChoice, name: str | None
    ) -> None:
        super().__init__()
        check_choice(self.option, choice, get_args(ReferenceChoice))
        self.choice: ReferenceChoice = choice
        self.name = name or type(self).__name__.removesuffix("Plugin")
        self.named = None if feature_module is None else FeatureSource.parse(feature_module)
        self.reference: R | None = None
        self._snapshot_of = -1  # the experience that self.reference is for
        self._within: int | None = None  # the experience that has begun and not ended
        self._at = -1  # the clock's count at which that one goes on
        self._restored: Mapping[str, Any] | None = None
        self._owner: weakref.ReferenceType[Any] | None = None
        self._log, self._watch = TermLog(), FiniteWatch()

    # ---- what a method says -----------------------------------------------------------

    @abstractmethod
    def make_reference(self, strategy: Any) -> R:
        """The reference, of the strategy's model as it stands."""

    @abstractmethod
    def restore_reference(self, strategy: Any, state: Any) -> R:
        """The reference that ``state`` describes."""

    @abstractmethod
    def reference_state(self, reference: R) -> Any:
        """What :meth:`restore_reference` needs."""

    # ---- before an experience ---------------------------------------------------------

    def embedding(self, model: nn.Module) -> FeatureSource:
        """Where the embedding of ``model`` is: as named, or by preset."""
        return self.named or find_feature_source(unwrap(model))

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse what cannot work: a second strategy, DataParallel, ranks on their own."""
        check_spread(strategy)
        owner = self._owner() if self._owner else None
        if owner is not None and owner is not strategy:
            raise ValueError(
                f"this {type(self).__name__} belongs to another strategy: its {self.option} and "
                "learned state are of that model; make one plugin for each strategy"
            )
        self._owner = weakref.ref(strategy)
        if any(isinstance(module, nn.DataParallel) for module in strategy.model.modules()):
            raise TypeError(
                "nn.DataParallel splits a batch over replicas, so no replica sees the whole "
                "of it: use the plain model on one device"
            )

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Take the reference, or keep, share or restore it."""
        self.stop()  # an earlier run may have ended in an exception
        if len(strategy.adapted_dataset) == 0:
            raise ValueError(
                f"experience {strategy.experience.current_experience} is empty: there is nothing "
                "to train on; drop it from the stream"
            )
        for fellow in strategy.plugins[: strategy.plugins.index(self)]:
            if isinstance(fellow, ReferencePlugin) and fellow.name == self.name:
                raise ValueError(
                    f"two plugins are called {self.name!r}, so their metrics would hide each "
                    "other: give one of them a name, name='...'"
                )
        state, now = self.pending, strategy.clock.train_exp_counter
        inside = bool(state.get("inside"))
        if inside and state["experience"] != now:
            raise ValueError(
                f"the loaded state was taken inside experience {state['experience']}, but the "
                f"strategy is about to train its number {now}: restore the strategy's clock too "
                f"(strategy.clock.train_exp_counter = {state['experience']}), or load a state that "
                "was taken between experiences"
            )
        # not new: after an exception, and the later parts of an online experience
        whole = whole_experience(strategy)
        new = is_first_part(strategy) and self._within != whole
        self._snapshot_of = now
        self.reference = self._choose(strategy, state.get("reference"), inside, new)
        self.prepare(strategy, state if inside else {}, new and not inside, kwargs)
        if inside and "terms" in state:
            self._log.load_state_dict(state["terms"], strategy.device)
        self._within, self._at, self._restored = whole, now, None
        if len(strategy.dataloader) == 0:
            raise ValueError(
                "the training loader is empty, so nothing would be learnt: drop_last=True "
                f"drops the only batch of {len(strategy.adapted_dataset)} samples at "
                f"train_mb_size={strategy.train_mb_size}; lower train_mb_size"
            )

    def prepare(
        self, strategy: Any, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """What a method does once the reference is there.

        Args:
            strategy: in ``before_training_exp``.
            state: a loaded state that was taken inside this very experience, or empty.
            new: whether the experience begins here: it is not a later part of it, a second
                try, or the rest of a resumed one.
            loading: the keyword arguments of ``strategy.train``.
        """

    def _choose(self, strategy: Any, restored: Any, inside: bool, new: bool) -> R:
        """The reference from before, a fellow plugin's, a restored one, or a new one."""
        if self.reference is not None and not (self.choice == "previous" and new):
            return self.reference
        self.reference = None  # freed before the next is made
        for fellow in strategy.plugins[: strategy.plugins.index(self)]:
            if isinstance(fellow, ReferencePlugin) and fellow.shares_reference_with(self):
                return cast("R", fellow.reference)
        if restored is not None and (inside or self.choice == "initial"):
            return self.restore_reference(strategy, restored)
        return self.make_reference(strategy)

    def shares_reference_with(self, other: ReferencePlugin[Any]) -> bool:
        """Whether this plugin's reference is the one that ``other`` is about to need."""
        own, need = ((p.option, p.choice, p._snapshot_of) for p in (self, other))
        return self.reference is not None and own == need

    # ---- a step -----------------------------------------------------------------------

    def add(self, strategy: Any, terms: Terms) -> None:
        """Add terms to the strategy's loss and to the means that are published.

        Raises:
            ValueError: when a term is NaN or infinite, naming experience and iteration.
        """
        self._watch.check(
            f"experience {strategy.experience.current_experience}",
            strategy.clock.train_exp_iterations, *(value for _, value in terms.values()),
        )  # fmt: skip
        for coefficient, value in terms.values():
            strategy.loss = strategy.loss + coefficient * value
        self._log.add({name: value for name, (_, value) in terms.items()}, share_of(strategy))

    # ---- after ------------------------------------------------------------------------

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Publish the terms' means over the epoch."""
        self._watch.look()
        publish(strategy, self, self.name, self.means())
        self._log.clear()

    def means(self) -> dict[str, float]:
        """What is published at the end of an epoch."""
        return self._log.means()

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Leave the model as it was found; drop a reference that is not needed again."""
        self.stop()
        self._at = strategy.clock.train_exp_counter + 1
        if is_last_part(strategy):
            self._within = None
            if self.choice == "previous":
                self.reference = None

    def stop(self) -> None:
        """End an experience, or what is left of one that was broken off; safe to repeat."""
        self._log.clear()
        self._watch.clear()

    # ---- what is saved ----------------------------------------------------------------

    @property
    def pending(self) -> Mapping[str, Any]:
        """A state that was loaded and not yet put to use; else empty."""
        return self._restored or {}

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on: nested dicts of tensors, numbers and strings."""
        kept = None if self.reference is None else self.reference_state(self.reference)
        return {
            "reference": self.pending.get("reference") if kept is None else kept,
            "experience": self.pending.get("experience", self._at),
            "inside": self.pending.get("inside", self._within is not None),
            "terms": self.pending.get("terms", self._log.state_dict()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over ``state``; what belongs to an experience is put in place by the next.

        A state that was taken inside an experience needs the strategy's clock at that
        experience (``strategy.clock.train_exp_counter``): then the reference is the model as
        it stood before, not the half-trained one, and training goes on where it was. The
        caller trains the epochs that are left.
        """
        self.reference, self._restored = None, state
        self._snapshot_of = self._at = -1
        self._within = None

    def __getstate__(self) -> dict[str, Any]:
        """For pickling between experiences: without the strategy."""
        return {**self.__dict__, "_owner": None}


def whole_experience(strategy: Any) -> int:
    """Number of the experience; for a part of an online one, of the whole."""
    experience = strategy.experience
    return int(getattr(experience, "origin_experience", experience).current_experience)


def is_first_part(strategy: Any) -> bool:
    """Whether an experience begins: true but for the later parts of an online stream."""
    return bool(getattr(strategy.experience, "is_first_subexp", True))


def is_last_part(strategy: Any) -> bool:
    """Whether an experience ends: true but for the earlier parts of an online stream."""
    return bool(getattr(strategy.experience, "is_last_subexp", True))


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {choices}")


def tell(message: str) -> None:
    """Warn, from where the user's code called Avalanche."""
    warnings.warn(message, stacklevel=4)
