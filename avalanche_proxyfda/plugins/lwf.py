"""Learning without forgetting as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from avalanche_proxyfda._checks import named_kind
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.data.labels import task_classes
from avalanche_proxyfda.features.source import OUTPUT, FeatureSource, unwrap
from avalanche_proxyfda.losses.distillation import DistillationLoss
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.features import FeatureOptions, FeaturePlugin, check_rows
from avalanche_proxyfda.plugins.base.heads import by_task, task_head
from avalanche_proxyfda.plugins.base.lifecycle import Terms
from avalanche_proxyfda.teacher.teacher import Values

Classes = Sequence[int] | Mapping[int, Sequence[int]]


class LwFPlugin(FeaturePlugin, supports_distributed=True):
    """Keeps the logits of old units (Li and Hoiem, ECCV 2016), for any head.

    Old units are the classes of earlier experiences. Units without a class so far are skipped,
    and a head with a single old unit has no term. An experience without old units costs no
    teacher forward. With one head, static or growing, the logits are the model's output. With a
    head for each task, the plugin runs the old heads on the embeddings of the one student forward
    and of the one teacher forward, and sums their terms, as in the paper. The teacher is in eval
    mode. Metric: ``LwF_distillation``.

    Args:
        weight: lambda, the coefficient of the term, or ``"auto"``.
        temperature: T, which divides the logits; above 0.
        known_classes: classes that the model knows before the first experience, as with a
            zero-shot head; a mapping gives them by task label. ``teacher="initial"`` keeps
            these classes only, and needs them.
        feature_module: with a head for each task, the input of the heads, ``"NAME:input"``;
            None finds Avalanche's ``MultiHeadClassifier`` and our ``UnitHeads``. With one head
            the argument has no effect.
        options: see :class:`FeaturePlugin`.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import LwFPlugin
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugin = LwFPlugin(weight=0.5, known_classes=[0, 1])
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> sorted(plugin.known)  # pairs of task and class
        [(0, 0), (0, 1)]
    """

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        temperature: float = 2.0,
        known_classes: Classes | None = None,
        **options: Unpack[FeatureOptions],
    ) -> None:
        super().__init__(weight, **options)
        self.loss = DistillationLoss(temperature)
        self.known = _pairs(known_classes)
        if self.choice == "initial" and not self.known:
            raise ValueError(
                "teacher='initial' has learnt no class whose logits could be kept: say with "
                "known_classes which units mean something before the first experience, or take "
                "teacher='previous'"
            )
        self._seen: set[tuple[int, int]] = set()  # (task, class) of earlier experiences
        self._met: set[tuple[int, int]] = set()  # (task, class) of this experience, so far
        self._old: dict[int, Tensor] = {}  # old classes of each task
        self._top: dict[int, int] = {}  # largest old class of each task, on the host
        self._head: nn.Module | None = None

    def places(self, model: nn.Module) -> tuple[FeatureSource, ...]:
        """Return the model's output, or the input of the tasks' heads."""
        return (task_head(model, self.named) or OUTPUT,)

    def is_active(self) -> bool:
        """Return True if there is an old unit."""
        return bool(self._old)

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Collect the old units."""
        model = unwrap(strategy.model)
        if any(getattr(part, "by_experience", False) for part in model.modules()):
            raise ValueError(
                "LwF keeps the logits of old classes, and the model's text head gives none of "
                "them in training: build the head with by_experience=False"
            )
        pairs = self.known | (self._seen if self.choice != "initial" else set())
        heads = task_head(model, self.named)
        if heads is None:  # one label space for all tasks
            pairs = {(0, label) for _, label in pairs}
            self._head = None
        else:
            self._head = heads.find(model)
        self._old = by_task(pairs, strategy.device)
        self._top = {task: max(c for t, c in pairs if t == task) for task in self._old}
        self._met |= task_classes(strategy.adapted_dataset)

    def check_student(self, values: Values, batch: int) -> None:
        """Raise ValueError unless the place gives a tensor with a row for each sample."""
        for source in self.sources:
            if not isinstance(values[source], Tensor):
                kind = named_kind(values[source])
                raise ValueError(
                    f"LwF needs logits [B, C], but {str(source)!r} gives {kind}: make the "
                    "model return a tensor"
                )
            check_rows(len(values[source]), batch, str(source))

    def deepest(self) -> FeatureSource:
        """Return the place of LwF; a shared teacher's values may hold deeper places of others."""
        return self.sources[0]

    def compare(self, student: Values, teacher: Values) -> Terms:
        """Return the term ``distillation``, summed over the heads with two or more old units.

        Without such a head there is no term: the distribution over one unit is constant.

        Args:
            student: the student's logits, or the embeddings that enter its heads.
            teacher: the same of the teacher.
        """
        logits = self._logits(student, self._head)
        teacher_logits = self._logits(teacher, self._teacher_head())
        losses = []
        for task, old in self._old.items():
            if self._top[task] >= logits[task].shape[1]:
                raise ValueError(
                    f"class {self._top[task]} of task {task} is to be kept, but its head has "
                    f"{logits[task].shape[1]} units: check known_classes"
                )
            if len(old) > 1:
                losses.append(self.loss(logits[task][:, old], teacher_logits[task][:, old]))
        return {"distillation": (self.weight, torch.stack(losses).sum())} if losses else {}

    def _teacher_head(self) -> nn.Module | None:
        assert self.reference is not None
        return None if self._head is None else self.reference.find(self.sources[0])

    def _logits(self, values: Values, head: nn.Module | None) -> dict[int, Tensor]:
        """Return the logits [B, C] of each task with old units; task 0 for a single head."""
        if head is None:
            return {0: values[OUTPUT]}
        rows = values[self.sources[0]]
        lower = self._tap.autocast if self._tap else None
        with torch.autocast(rows.device.type, dtype=lower) if lower else nullcontext():
            return {task: _run(head, rows, task) for task in self._old}

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Make the classes of the experience old at its end."""
        if self.is_last_part(strategy):
            self._seen, self._met = self._seen | self._met, set()
        super().after_training_exp(strategy, **kwargs)

    def stop(self) -> None:
        """End an experience; release the student's head."""
        super().stop()
        self._head, self._old = None, {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base, and the classes so far."""
        classes = {"seen": sorted(self._seen), "met": sorted(self._met)}
        return {**super().state_dict(), **classes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        super().load_state_dict(state)
        self._seen, self._met = ({(t, c) for t, c in state[name]} for name in ("seen", "met"))

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without the head, for pickling between experiences."""
        return {**super().__getstate__(), "_head": None, "_old": {}}


def _run(head: Any, rows: Tensor, task: int) -> Tensor:
    """Return the logits of ``task`` from the embeddings ``rows``."""
    try:
        logits: Tensor = head.forward_single_task(rows, task)
    except (KeyError, IndexError) as error:
        raise ValueError(
            f"classes of task {task} are to be kept, but {type(head).__name__} has no head for "
            "it: check known_classes"
        ) from error
    return logits


def _pairs(known: Classes | None) -> set[tuple[int, int]]:
    """Return ``known_classes`` as (task, class) pairs; raise ValueError for no whole numbers."""
    tasks = known if isinstance(known, Mapping) else {0: known or ()}
    pairs = {(task, label) for task, labels in tasks.items() for label in labels}
    for task, label in pairs:
        if type(task) is not int or type(label) is not int or min(task, label) < 0:
            raise ValueError(
                f"known_classes holds {label!r} (task {task!r}): classes and task labels are "
                "whole numbers from 0"
            )
    return pairs
