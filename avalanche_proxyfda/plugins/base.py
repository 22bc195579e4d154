"""Avalanche's life-cycle for feature regularisers, written down once.

A subclass says which loss it wants and what its terms weigh. This base knows when to
snapshot the teacher, where to read the student, where the terms are added, how the loss's
own parameters learn, what is saved, and what is refused.
"""

from __future__ import annotations

import logging
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict, get_args

import torch
from avalanche.models.utils import avalanche_forward
from avalanche.training.plugins.strategy_plugin import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda.feature_source import FeatureSource, find_feature_source, unwrap
from avalanche_proxyfda.features import FeatureTap, Pooling, pool_features
from avalanche_proxyfda.losses.base import check_amount, check_count
from avalanche_proxyfda.plugins.batches import HardClassBatches
from avalanche_proxyfda.plugins.terms import FiniteWatch, TermLog, publish
from avalanche_proxyfda.teacher import FeatureTeacher

TeacherChoice = Literal["previous", "initial"]


class PluginOptions(TypedDict, total=False):
    """Keyword arguments that every plugin on features takes; see :class:`FeaturePlugin`."""

    classes_per_batch: int
    samples_per_class: int | None
    pooling: Pooling
    learning_rate: float
    seed: int
    name: str | None


Terms = dict[str, tuple[float, Tensor]]
"""Name of a term: its coefficient in the strategy's loss, and its value (a scalar)."""

_log = logging.getLogger(__name__)


class FeaturePlugin(SupervisedPlugin[Any], ABC):
    """Adds terms to a strategy's loss that compare the student's features to a teacher's.

    A step costs the student's own forward and one teacher forward, which all plugins of
    the strategy that ask for the same teacher share. One device only: under Avalanche's
    distributed mode a warning says that the plugin does not support it.

    Args:
        feature_module: ``"NAME"`` (what that module returns) or ``"NAME:input"`` (what it
            is given); None takes the embedding that enters the head, by preset.
        weight: lambda, the coefficient of the term that reaches the student.
        teacher: ``"previous"``, the model as it stood when the experience before ended (for
            the first: as given), or ``"initial"``, the model as given, for ever.
        hard_class_batches: whether to train on class-balanced batches of related classes.
        classes_per_batch: m of those batches.
        samples_per_class: n of those batches; None fills the strategy's ``train_mb_size``.
        pooling: how tokens become one vector a sample; ``"auto"`` averages.
        learning_rate: AdamW's, for the loss's own parameters (no weight decay).
        seed: names the plugin's random streams; the global ones are left alone.
        name: of the metrics; None takes the class's.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range.
    """

    def __init__(
        self,
        feature_module: str | None = None,
        weight: float = 1.0,
        teacher: TeacherChoice = "previous",
        hard_class_batches: bool = True,
        classes_per_batch: int = 16,
        samples_per_class: int | None = None,
        pooling: Pooling = "auto",
        learning_rate: float = 1e-3,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.weight = check_amount("weight", weight)
        for option, value, choices in (
            ("teacher", teacher, get_args(TeacherChoice)),
            ("pooling", pooling, get_args(Pooling)),
        ):
            if value not in choices:
                raise ValueError(f"{option}={value!r} is unknown; choose one of {choices}")
        self.teacher_choice: TeacherChoice = teacher
        self.pooling: Pooling = pooling
        self.learning_rate = check_amount("learning_rate", learning_rate)
        self.seed = check_count("seed", seed, 0)
        self.name = name or type(self).__name__.removesuffix("Plugin")
        self.source: FeatureSource | None = None
        self._named = None if feature_module is None else FeatureSource.parse(feature_module)
        check_count("classes_per_batch", classes_per_batch, 2)
        if samples_per_class is not None:
            check_count("samples_per_class", samples_per_class, 1)
        self._batches = (
            HardClassBatches(classes_per_batch, samples_per_class, seed)
            if hard_class_batches
            else None
        )
        self.loss: nn.Module | None = None
        self.optimizer: torch.optim.Optimizer | None = None
        self.teacher: FeatureTeacher | None = None
        self.skipped = 0
        """Batches of fewer than two samples so far, in which there was nothing to compare."""
        self.teacher_forwards = 0
        """Teacher forwards that this plugin caused; one that it shares counts where it was made."""
        self._snapshot_of = -1  # the experience that self.teacher was made for
        self._restored: Mapping[str, Any] | None = None
        self._tap: FeatureTap | None = None
        self._student: Tensor | None = None
        self._owner: weakref.ReferenceType[Any] | None = None
        self._log, self._watch = TermLog(), FiniteWatch()
        self._skipped_before = 0  # this epoch

    # ---- what a method says -----------------------------------------------------------

    @abstractmethod
    def build_loss(self, dim: int, batch: int) -> nn.Module:
        """The loss for features [B, ``dim``] and batches of about ``batch`` samples."""

    @abstractmethod
    def terms(self, loss: Any, student: Tensor, teacher: Tensor) -> Terms:
        """Named terms of a batch: student [B, D], teacher [B, D'], B >= 2."""

    def check_batch_size(self, batch: int) -> None:
        """Raise ValueError when batches of ``batch`` samples are too small for the method."""

    # ---- before an experience ---------------------------------------------------------

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse what cannot work: a second strategy, DataParallel."""
        owner = self._owner() if self._owner else None
        if owner is not None and owner is not strategy:
            raise ValueError(
                f"this {type(self).__name__} belongs to another strategy: its teacher and "
                "learned parameters are of that model; make one plugin for each strategy"
            )
        self._owner = weakref.ref(strategy)
        if any(isinstance(module, nn.DataParallel) for module in strategy.model.modules()):
            raise TypeError(
                "nn.DataParallel splits a batch over replicas, so no replica sees the whole "
                "neighbour graph: use the plain model on one device"
            )

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Snapshot the teacher, put the batches in place, start to read the student."""
        self._stop_reading()  # an earlier run may have ended in an exception
        if len(strategy.adapted_dataset) == 0:
            raise ValueError(
                f"experience {strategy.experience.current_experience} is empty: there is nothing "
                "to train on; drop it from the stream"
            )
        model = unwrap(strategy.model)
        self.source = self._named or find_feature_source(model)
        if self._named is None:
            _log.info("%s reads features at %r", self.name, str(self.source))
        self.source.find(model)
        state, self._restored = self._restored or {}, None
        now = strategy.clock.train_exp_counter
        inside = state.get("experience") == now
        of_previous = self.teacher_choice == "previous" and state.get("teacher") is not None
        if not inside and (of_previous or state.get("sampler") is not None):
            raise ValueError(
                f"the loaded state was taken inside experience {state['experience']}, but the "
                f"strategy is about to train its number {now}: restore the strategy's clock too "
                f"(strategy.clock.train_exp_counter = {state['experience']}), or load a state that "
                "was taken between experiences"
            )
        self.teacher = self._choose_teacher(strategy, state.get("teacher"), inside)
        if self._batches is not None:
            labels = getattr(strategy.experience, "task_labels", None) or [0]
            self._batches.install(strategy, self._ask_teacher(labels[0]), kwargs)
            self.teacher.forget()
            if inside and state["sampler"] is not None:
                self._batches.resume(state["sampler"])
        if len(strategy.dataloader) == 0:
            raise ValueError(
                "the training loader is empty, so nothing would be learnt: drop_last=True "
                f"drops the only batch of {len(strategy.adapted_dataset)} samples at "
                f"train_mb_size={strategy.train_mb_size}; lower train_mb_size"
            )
        sampler = self._batches.sampler if self._batches else None
        self.check_batch_size(sampler.batch_size if sampler else strategy.train_mb_size)
        if self.loss is not None:
            self._place(strategy.device)
        self._tap = FeatureTap((self.source,))
        self._tap.attach(model)

    def _choose_teacher(
        self, strategy: Any, restored: Mapping[str, Any] | None, inside: bool
    ) -> FeatureTeacher:
        """The teacher from before, a fellow plugin's, a restored one, or a new snapshot.

        ``inside``: the restored state was taken in the middle of this very experience.
        """
        assert self.source is not None
        now = strategy.clock.train_exp_counter
        again, self._snapshot_of = self._snapshot_of == now, now  # after an exception, a new try
        first_part = getattr(strategy.experience, "is_first_subexp", True)  # of online streams
        due = self.teacher_choice == "previous" and first_part and not again
        if self.teacher is not None and not due:
            return self.teacher
        self.teacher = None  # freed before the next is made
        for fellow in strategy.plugins[: strategy.plugins.index(self)]:
            if isinstance(fellow, FeaturePlugin) and fellow.shares_teacher_with(self):
                assert fellow.teacher is not None
                return fellow.teacher
        if restored is not None and (inside or self.teacher_choice == "initial"):
            return FeatureTeacher.restore(strategy.model, self.source, restored, self.pooling)
        return FeatureTeacher(strategy.model, self.source, self.pooling)

    def shares_teacher_with(self, other: FeaturePlugin) -> bool:
        """Whether this plugin's teacher is the one that ``other`` is about to need."""
        own, need = ((p.source, p.pooling, p.teacher_choice, p._snapshot_of) for p in (self, other))
        return self.teacher is not None and own == need

    def _ask_teacher(
        self, tasks: Any, autocast: torch.dtype | None = None
    ) -> Callable[[Tensor], Tensor]:
        """The teacher as a function of images; a whole model may want their task labels."""
        teacher = self.teacher
        assert teacher is not None

        def ask(images: Tensor) -> Tensor:
            earlier = teacher.forwards
            rows = teacher.features(images, autocast, lambda m, x: avalanche_forward(m, x, tasks))
            self.teacher_forwards += teacher.forwards - earlier
            return rows

        return ask

    def _place(self, device: torch.device) -> None:
        """Move the loss to ``device`` and give it an optimizer there, keeping its state."""
        assert self.loss is not None
        self.loss.to(device)
        learned = [p for p in self.loss.parameters() if p.requires_grad]
        state = self.optimizer.state_dict() if self.optimizer else None
        if learned:
            self.optimizer = torch.optim.AdamW(learned, lr=self.learning_rate, weight_decay=0.0)
            if state is not None:
                self.optimizer.load_state_dict(state)
                for group in self.optimizer.param_groups:
                    group["lr"] = self.learning_rate

    # ---- a step -----------------------------------------------------------------------

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Choose the epoch's batches."""
        if self._batches is not None:
            self._batches.start_epoch(strategy)

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Start to read: the next forward is the student's."""
        if self._tap is not None:
            self._tap.arm()

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Keep the student's features."""
        assert self._tap is not None
        assert self.source is not None
        value = self._tap.take()[self.source]
        features = pool_features(value, str(self.source), self.pooling)
        if len(features) != len(strategy.mb_x):
            raise ValueError(
                f"feature_module={str(self.source)!r} gave {len(features)} rows for a batch of "
                f"{len(strategy.mb_x)}: it does not see the batch as a whole (a multi-task "
                "model that splits it by task, for example); name a module before that"
            )
        self._student = features

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Ask the teacher about the same batch and add the terms to the strategy's loss."""
        student, self._student = self._student, None
        assert student is not None
        assert self._tap is not None
        if len(student) < 2:
            self.skipped += 1
            return
        tasks = strategy.mbatch[-1] if len(strategy.mbatch) > 2 else 0
        teacher = self._ask_teacher(tasks, self._tap.autocast)(strategy.mb_x)
        self._watch.check(
            f"experience {strategy.experience.current_experience}",
            strategy.clock.train_exp_iterations, student, teacher,
        )  # fmt: skip
        if self.loss is None:
            self.loss = self.build_loss(student.shape[1], len(student))
            self._place(student.device)
        if self.optimizer is not None:
            self.optimizer.zero_grad()
        terms = self.terms(self.loss, student, teacher)
        for coefficient, value in terms.values():
            strategy.loss = strategy.loss + coefficient * value
        self._log.add({name: value for name, (_, value) in terms.items()})

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Step the loss's own parameters."""
        if self.optimizer is not None:
            self.optimizer.step()
            self.optimizer.zero_grad()  # a batch that is skipped must not step them again

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Forget the batch."""
        if self.teacher is not None:
            self.teacher.forget()
        if self._batches is not None:
            self._batches.count_step()

    # ---- after ------------------------------------------------------------------------

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Publish the terms' means over the epoch."""
        self._watch.look()
        means = self._log.means()
        if self.skipped > self._skipped_before:
            means["skipped_batches"] = float(self.skipped - self._skipped_before)
        self._skipped_before = self.skipped
        publish(strategy, self, self.name, means)
        self._log.clear()

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Leave the model as it was found; drop a teacher that is not needed again."""
        self._stop_reading()
        last_part = getattr(strategy.experience, "is_last_subexp", True)
        if self.teacher_choice == "previous" and last_part:
            self.teacher = None

    def _stop_reading(self) -> None:
        if self._tap is not None:
            self._tap.detach()
        self._tap = self._student = None
        if self._batches is not None:
            self._batches.remove()
        self._log.clear()
        self._watch.clear()
        if self.teacher is not None:
            self.teacher.forget()

    # ---- what is saved ----------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on: nested dicts of tensors, numbers and strings."""
        pending = self._restored or {}  # loaded and not yet put to use
        batches = self._batches.state_dict() if self._batches else None
        return {
            "shape": self.loss_shape() if self.loss else None,
            "loss": self.loss.state_dict() if self.loss else None,
            "optimizer": self.optimizer.state_dict() if self.optimizer else None,
            "teacher": self.teacher.state_dict() if self.teacher else pending.get("teacher"),
            "experience": pending.get("experience", self._snapshot_of),
            "sampler": batches or pending.get("sampler"),
            "skipped": self.skipped,
        }

    def loss_shape(self) -> tuple[int, int]:
        """(dim, batch) that :meth:`build_loss` needs to make the present loss again."""
        return (1, 2)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over ``state``; teacher and batches are put in place by the next experience.

        A state that was taken inside an experience needs the strategy's clock at that
        experience (``strategy.clock.train_exp_counter``): then the teacher is the model as it
        stood before, not the half-trained one, and batches go on where training was. The
        caller trains the epochs that are left.
        """
        self.loss = self.optimizer = None
        if state["shape"] is not None:
            self.loss = self.build_loss(*state["shape"])
            self.loss.load_state_dict(state["loss"])
            self._place(torch.device("cpu"))
            if state["optimizer"] is not None and self.optimizer is not None:
                self.optimizer.load_state_dict(state["optimizer"])
        self.skipped = self._skipped_before = int(state["skipped"])
        self.teacher, self._snapshot_of, self._restored = None, -1, state

    def __getstate__(self) -> dict[str, Any]:
        """For pickling between experiences: no strategy, no hooks, no batch."""
        return {**self.__dict__, "_owner": None, "_tap": None, "_student": None}
