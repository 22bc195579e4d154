"""The base of every method: a reference, and its life through the experiences.

The reference is the model as it stood earlier. It is a teacher for methods on features and
logits, and a set of anchors for methods on weights. The base decides when the reference is
taken, which plugins share it, how terms reach the loss and the metrics, and what is saved.
"""

from __future__ import annotations

import inspect
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast, get_args

from avalanche.training.plugins.strategy_plugin import SupervisedPlugin
from torch import Tensor, nn
from typing_extensions import Self

from avalanche_proxyfda._checks import check_choice
from avalanche_proxyfda._online import is_first_part, is_last_part, whole_experience
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.distributed.plugin import batch_size, check_spread, share_of
from avalanche_proxyfda.features.presets import find_feature_source
from avalanche_proxyfda.features.source import FeatureSource, unwrap
from avalanche_proxyfda.plugins.base.arguments import check_names, check_positional, describe
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.given import given_arguments
from avalanche_proxyfda.plugins.base.terms import FiniteWatch, TaskLoss, TermLog, publish

ReferenceChoice = Literal["previous", "initial"]
TeacherChoice = ReferenceChoice | Literal["averaged"]
Terms = dict[str, tuple[Weight, Tensor]]
"""Name of a term: its coefficient in the strategy's loss, and its value (a scalar)."""
Weighed = dict[str, tuple[float | Tensor, Tensor]]
"""Terms whose coefficients are numbers or scalars on the device."""

R = TypeVar("R")


class ReferencePlugin(SupervisedPlugin[Any], Generic[R], ABC):
    """Keeps a reference through the experiences, and adds terms to a strategy's loss.

    Avalanche's ``Loss_Epoch`` is the mean of the loss with all terms. The first plugin of this
    package in a strategy therefore also publishes ``Task_Loss_Epoch/...``, the mean of the loss
    before the package's plugins add to it: the criterion's, and the terms of other plugins that
    stand before.

    On several devices the plugin needs
    :class:`~avalanche_proxyfda.distributed.DistributedTraining`, and then gives the results of
    a single process.

    Args:
        choice: ``"previous"``, the model as it stood at the end of the experience before (for
            the first experience: as given), or ``"initial"``, always the model as given.
        feature_module: the embedding: ``"NAME"``, the module's output, or ``"NAME:input"``,
            its input. The head is the part of the model after the embedding. None takes a
            preset.
        name: prefix of the metrics; None takes the name of the class without "Plugin".

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range.
    """

    def __init_subclass__(cls, supports_distributed: bool = False, **kwargs: Any) -> None:
        # Avalanche's own keyword, with its type
        super().__init_subclass__(supports_distributed=supports_distributed, **kwargs)
        describe(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuse an argument that the class does not take, in the name of this class."""
        if cls.__signature__ is not None:
            check_positional(cls.__name__, cls.__signature__, len(args))
            check_names(cls.__name__, cls.__signature__.parameters, kwargs, cls.kin)
        instance: Self = super().__new__(cls)
        instance.given = given_arguments(cls.__signature__, args, kwargs)
        return instance

    given: Mapping[str, Any]
    """The arguments of the constructor as plain data; a checkpoint with others is refused."""

    __signature__: ClassVar[inspect.Signature | None] = None
    """All arguments, those of the base classes included; None for a class with other keywords."""

    kin: ClassVar[tuple[type, ...]] = ()
    """Classes with further arguments, which the refusal of such an argument names."""

    choices: ClassVar[tuple[str, ...]] = get_args(ReferenceChoice)
    """Values of the argument ``choice``."""

    option: ClassVar[str]
    """Name that a method gives to its argument ``choice``; plugins of one option may share."""

    def __init__(
        self,
        *,
        choice: TeacherChoice,
        feature_module: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        check_choice(self.option, choice, self.choices)
        self.choice: TeacherChoice = choice
        self.name = name or type(self).__name__.removesuffix("Plugin")
        self.named = None if feature_module is None else FeatureSource.parse(feature_module)
        self.follows_weights = False
        """True for a plugin that averages the weights after each optimizer step."""
        self.reference: R | None = None
        self._snapshot_of = -1  # the experience of self.reference
        self._within: int | None = None  # the experience that has begun and not ended
        self._at = -1  # the clock's count for that experience
        self._first_part = -1  # and for its first part, in an online stream
        self._restored: Mapping[str, Any] | None = None
        self._owner: weakref.ReferenceType[Any] | None = None
        self._log, self._watch = TermLog(), FiniteWatch()
        self._task_loss: TaskLoss | None = None  # in the first plugin of the package
        self._task_value: Tensor | None = None  # of this step, in the same plugin
        self._warned: set[str] = set()

    # ---- methods of a subclass --------------------------------------------------------

    @abstractmethod
    def make_reference(self, strategy: Strategy) -> R:
        """Return a reference of the strategy's model as it stands."""

    @abstractmethod
    def restore_reference(self, strategy: Strategy, state: Any) -> R:
        """Return the reference that ``state`` describes."""

    @abstractmethod
    def reference_state(self, reference: R) -> Any:
        """Return the state that :meth:`restore_reference` takes."""

    # ---- before an experience ---------------------------------------------------------

    def embedding(self, model: nn.Module) -> FeatureSource:
        """Return the place of the embedding in ``model``: as named, or by preset."""
        return self.named or find_feature_source(unwrap(model))

    def plugins_before(self, strategy: Strategy) -> list[ReferencePlugin[Any]]:
        """Return the plugins of this package that stand before this plugin in the strategy."""
        plugins = strategy.plugins[: strategy.plugins.index(self)]
        return [plugin for plugin in plugins if isinstance(plugin, ReferencePlugin)]

    def before_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Refuse a second strategy or listing, DataParallel, ranks without DistributedTraining.

        The plugin belongs to the first strategy that trains with it, also after that strategy
        is gone. :meth:`load_state_dict` ends the bond, since it replaces the state.
        """
        check_spread(strategy)
        if self._owner is not None and self._owner() is not strategy:
            gone = ", which no longer exists" if self._owner() is None else ""
            raise ValueError(
                f"this {type(self).__name__} belongs to another strategy{gone}: its "
                f"{self.option} and learned state are of that model; make one plugin for each "
                "strategy"
            )
        times = sum(plugin is self for plugin in strategy.plugins)
        if times > 1:
            raise ValueError(
                f"the same {type(self).__name__} is listed {times} times in plugins=[...]: list "
                "it once, or make a second plugin with a name of its own"
            )
        if any(isinstance(module, nn.DataParallel) for module in strategy.model.modules()):
            raise TypeError(
                "nn.DataParallel splits a batch over replicas, so no replica sees the whole "
                "batch: use the plain model on one device"
            )
        self._owner = weakref.ref(strategy)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Keep, share, restore or make the reference."""
        self.stop()  # an exception may have ended an earlier run
        if len(strategy.adapted_dataset) == 0:
            raise ValueError(
                f"experience {strategy.experience.current_experience} is empty: there is nothing "
                "to train on; drop it from the stream"
            )
        if any(plugin.name == self.name for plugin in self.plugins_before(strategy)):
            raise ValueError(
                f"two plugins are called {self.name!r}, so their metrics would hide each "
                "other: give one of them a name, name='...'"
            )
        self._task_loss = None if self.plugins_before(strategy) else TaskLoss()
        state, now = self.pending, strategy.clock.train_exp_counter
        inside = bool(state.get("inside"))
        if inside and state["experience"] != now:
            raise ValueError(
                f"the loaded state was taken inside experience {state['experience']}, but the "
                f"strategy is about to train its number {now}: restore the strategy's clock too "
                f"(strategy.clock.train_exp_counter = {state['experience']}), or load a state that "
                "was taken between experiences"
            )
        # neither a run after an exception nor a later part of an online experience is new
        whole = whole_experience(strategy)
        new = is_first_part(strategy) and self._within != whole
        if is_first_part(strategy):
            self._first_part = now
        elif inside:
            self._first_part = state.get("first_part", -1)  # older states lack it
        self._snapshot_of = now
        self.reference = self._choose(strategy, state.get("reference"), inside, new)
        self.prepare(strategy, state if inside else {}, new and not inside, kwargs)
        if inside and "terms" in state:
            self._log.load_state_dict(state["terms"], strategy.device)
        if inside and state.get("task_loss") is not None and self._task_loss is not None:
            self._task_loss.load_state_dict(state["task_loss"], strategy.device)
        if len(strategy.dataloader) == 0:
            raise ValueError(
                "the training loader is empty, so nothing would be learnt: drop_last=True "
                f"drops the only batch of {len(strategy.adapted_dataset)} samples at "
                f"train_mb_size={strategy.train_mb_size}; lower train_mb_size"
            )
        self._within, self._at, self._restored = whole, now, None  # not after a refusal

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Prepare an experience once the reference exists; the base does nothing.

        Args:
            strategy: in ``before_training_exp``.
            state: a loaded state that was taken inside this experience, or empty.
            new: True if the experience begins here; False in its later parts, in a second try,
                and after a resume.
            loading: the keyword arguments of ``strategy.train``.
        """

    def _choose(self, strategy: Strategy, restored: Any, inside: bool, new: bool) -> R:
        """Return the earlier reference, another plugin's, a restored one, or a new one."""
        if self.reference is not None and not (self.choice != "initial" and new):
            return self.reference
        self.reference = None  # freed before the next reference is made
        for plugin in self.plugins_before(strategy):
            if plugin.shares_reference_with(self):
                return cast("R", plugin.reference)
        if restored is not None and (inside or self.choice == "initial"):
            return self.restore_reference(strategy, restored)
        return self.make_reference(strategy)

    def shares_reference_with(self, other: ReferencePlugin[Any]) -> bool:
        """Return True if ``other`` can use this plugin's reference."""
        mine, theirs = ((p.option, p.choice, p._snapshot_of) for p in (self, other))
        return self.reference is not None and mine == theirs

    def warn_once(self, subject: str, message: str) -> None:
        """Warn with ``message``, unless this plugin has warned about ``subject`` before."""
        if subject not in self._warned:
            self._warned.add(subject)
            warnings.warn(message, stacklevel=4)

    def warn_of(self, subject: str, message: str | None) -> None:
        """Warn once with ``message``; None is no warning."""
        if message is not None:
            self.warn_once(subject, message)

    # ---- a step -----------------------------------------------------------------------

    def before_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note the strategy's loss before the package's plugins add terms."""
        if self._task_loss is not None:
            self._task_value = strategy.loss.detach().mean()
            self._task_loss.add(strategy.loss, batch_size(strategy), share_of(strategy))

    def task_value(self, strategy: Strategy) -> Tensor:
        """Return the strategy's loss of this step before the package's plugins added terms.

        It is a scalar without gradient, of this process's rows.
        """
        first, *_ = [*self.plugins_before(strategy), self]
        assert first._task_value is not None
        return first._task_value

    def add(self, strategy: Strategy, terms: Weighed, log: TermLog | None = None) -> None:
        """Add terms to the strategy's loss and to the published means.

        Args:
            strategy: in ``before_backward``.
            terms: the terms of a batch; without a term, nothing happens.
            log: means of their own for these terms; None takes the plugin's.

        Raises:
            ValueError: if a term is NaN or infinite; names experience and iteration.
        """
        if not terms:
            return
        values = [value for _, value in terms.values()]
        where = f"experience {strategy.experience.current_experience}"
        self._watch.check(where, strategy.clock.train_exp_iterations, *values)
        for coefficient, value in terms.values():
            strategy.loss = strategy.loss + coefficient * value
        values_of = {name: value for name, (_, value) in terms.items()}
        (self._log if log is None else log).add(values_of, share_of(strategy))

    # ---- after ------------------------------------------------------------------------

    def check_steps(self) -> None:
        """Read the checks of earlier steps that still lie on the device.

        The end of an epoch and a checkpoint call it. Each read waits for the device; without a new
        step there is no read.

        Raises:
            ValueError: if a term was NaN or infinite; names experience and iteration of the first.
        """
        self._watch.look()

    def after_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Publish the terms' means over the epoch."""
        self.check_steps()
        if self._task_loss is not None:
            publish(strategy, self, "Task", self._task_loss.means())
            self._task_loss.clear()
        publish(strategy, self, self.name, self.means())
        self._log.clear()

    def means(self) -> dict[str, float]:
        """Return the values that are published at the end of an epoch."""
        return self._log.means()

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Clean up the model; drop the reference if no later experience needs it."""
        self.stop()
        self._at = strategy.clock.train_exp_counter + 1
        if self.is_last_part(strategy):
            self._within = None
            if self.choice != "initial":
                self.reference = None

    def is_last_part(self, strategy: Strategy) -> bool:
        """Return True if an experience ends: False in earlier parts of an online experience."""
        return is_last_part(strategy, self._first_part)

    def stop(self) -> None:
        """End an experience, also after an exception; safe to repeat."""
        self._task_loss = self._task_value = None
        self._log.clear()
        self._watch.clear()

    # ---- saved state ------------------------------------------------------------------

    @property
    def pending(self) -> Mapping[str, Any]:
        """A loaded state that is not in use yet; else empty."""
        return self._restored or {}

    @property
    def on_trial(self) -> bool:
        """True until a strategy trains with the plugin, or a state is loaded."""
        return self._owner is None and not self.pending

    def state_dict(self) -> dict[str, Any]:
        """Return the state to resume from: nested dicts of tensors, numbers and strings."""
        reference = None if self.reference is None else self.reference_state(self.reference)
        return {
            "reference": self.pending.get("reference") if reference is None else reference,
            "experience": self.pending.get("experience", self._at),
            "inside": self.pending.get("inside", self._within is not None),
            "first_part": self.pending.get("first_part", self._first_part),
            "terms": self.pending.get("terms", self._log.state_dict()),
            "task_loss": self.pending.get(
                "task_loss", self._task_loss.state_dict() if self._task_loss else None
            ),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``; the next experience puts its reference in place.

        A state that was taken inside an experience needs the strategy's clock at that
        experience (``strategy.clock.train_exp_counter``). The reference is then the model as
        it stood before the experience, and training resumes at the same place. The caller
        trains the remaining epochs.
        """
        self.reference, self._restored = None, state
        self._owner = None
        self._snapshot_of = self._at = self._first_part = -1
        self._within = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without the strategy, for pickling between experiences."""
        return {**self.__dict__, "_owner": None}


describe(ReferencePlugin)  # __init_subclass__ describes the subclasses
