"""LP-FT as an Avalanche plugin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from avalanche.models.utils import avalanche_forward
from torch import Tensor, nn

from avalanche_proxyfda.feature_source import FeatureSource, unwrap
from avalanche_proxyfda.losses.base import check_amount
from avalanche_proxyfda.metrics.linear_probe import fit_probe, held_out, select_probe
from avalanche_proxyfda.passes import feature_batches
from avalanche_proxyfda.plugins.base import TeacherChoice
from avalanche_proxyfda.plugins.heads import last_linear, task_head
from avalanche_proxyfda.plugins.labels import labels_and_tasks, task_classes
from avalanche_proxyfda.plugins.reference import ReferencePlugin, check_choice, tell
from avalanche_proxyfda.teacher import FeatureTeacher

Frozen = Literal["head", "encoder"]


class LPFTPlugin(ReferencePlugin[FeatureTeacher], supports_distributed=True):
    """Linear probing, then fine-tuning (Kumar et al., ICLR 2022).

    Before an experience is trained, a linear probe is fitted to the teacher's features of
    its training data (evaluation view, one pass), and put into the head: into the rows of
    the experience's classes, for each of its tasks. The others stay. Features are what
    enters the head's last linear layer, so a head that normalises is no special case. Then
    training goes on as ever; nothing is added to a step.

    It must stand before the other plugins of this package, whose teachers and anchors would
    otherwise hold the head of before. In an online stream the probe is fitted to the first
    part of an experience.

    Args:
        feature_module, name: see :class:`ReferencePlugin`.
        teacher: ``"previous"`` fits the probe to the model as it stands, ``"initial"`` to
            the model as first given.
        l2: the probe's penalty; None chooses it on a fifth of the training data that is held
            out for that, and fits again on all.
        head: name of the head's last linear layer; None finds it.
        freeze_share: share of the experience's steps (of its first part's, in an online
            stream), from its first, in which a part of the model gets no update.
        freeze: that part: the ``"head"``'s last linear layer, or the ``"encoder"``, which
            is all but that layer.
        refit: whether classes that were fitted before are fitted again when they come back
            (with new images: learning by domain); otherwise their rows stay.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range.
    """

    option = "teacher of the probe"

    def __init__(
        self,
        feature_module: str | None = None,
        teacher: TeacherChoice = "previous",
        l2: float | None = None,
        head: str | None = None,
        freeze_share: float = 0.0,
        freeze: Frozen = "head",
        refit: bool = True,
        name: str | None = None,
    ) -> None:
        check_choice("teacher", teacher, ("previous", "initial"))
        super().__init__(feature_module, teacher, name)
        if l2 is not None and check_amount("l2", l2) == 0:
            raise ValueError("l2=0 must be positive, or None to choose it")
        if check_amount("freeze_share", freeze_share) > 1:
            raise ValueError(f"freeze_share={freeze_share} must lie in [0, 1]")
        check_choice("freeze", freeze, get_args(Frozen))
        self.l2, self.head, self.freeze_share, self.freeze = l2, head, freeze_share, freeze
        self.refit = refit
        self._known: dict[int, list[int]] = {}  # classes fitted so far, by task
        self.fitted: dict[int, float] = {}
        """Training accuracy of the probe of each task of the last experience."""
        self._task = 0  # the task whose head the teacher's features enter
        self._heads: list[nn.Linear] = []
        self._done = 0  # steps of this experience
        self._planned: int | None = None  # steps that it began with the plan of
        self._told = False

    # ---- the teacher ------------------------------------------------------------------

    def _place(self, strategy: Any, task: int) -> FeatureSource:
        model = unwrap(strategy.model)
        return FeatureSource(last_linear(model, task, self.embedding(model), self.head), True)

    def make_reference(self, strategy: Any) -> FeatureTeacher:
        """A copy of the model; what enters the head is the same for every task."""
        self._task = min(task for task, _ in task_classes(strategy.adapted_dataset))
        return FeatureTeacher(strategy.model, [self._place(strategy, self._task)])

    def restore_reference(self, strategy: Any, state: Any) -> FeatureTeacher:
        """The teacher of a saved state."""
        self._task = int(state["task"])
        place = self._place(strategy, self._task)
        return FeatureTeacher.restore(strategy.model, [place], state["teacher"])

    def reference_state(self, reference: FeatureTeacher) -> Any:
        """Its weights, and the task of the head that it ends at."""
        return {"task": self._task, "teacher": reference.state_dict()}

    # ---- an experience ----------------------------------------------------------------

    def prepare(
        self, strategy: Any, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Fit the probes and put them into the head."""
        for fellow in strategy.plugins[: strategy.plugins.index(self)]:
            if isinstance(fellow, ReferencePlugin):
                raise ValueError(
                    f"{type(fellow).__name__} has taken its {fellow.option} before LPFTPlugin "
                    "changes the head: put LPFTPlugin before it in plugins"
                )
        model = unwrap(strategy.model)
        labels, groups = labels_and_tasks(strategy.adapted_dataset)
        if task_head(model, self.embedding(model)) is None:
            groups = torch.zeros_like(groups)  # one label space, whatever the tasks are called
        tasks = sorted(set(groups.tolist()))
        layers = {task: self._layer(strategy, model, task) for task in tasks}
        self._heads = list(dict.fromkeys(layers.values()))
        if new:
            self.fitted = {}
            present = {task: set(labels[groups == task].tolist()) for task in tasks}
            due = [t for t in tasks if self.refit or present[t] - set(self._known.get(t, ()))]
            rows = self._features(strategy, loading) if due else None
            for task in due:
                assert rows is not None
                mine = groups == task
                self._fit(task, layers[task], rows[mine], labels[mine])
        if new:
            self._done, self._planned = 0, None
        elif state:
            self._done, self._planned = state["done"], state["planned"]
        if self.choice == "previous":
            self.reference = None  # nothing in training needs it

    def _layer(self, strategy: Any, model: nn.Module, task: int) -> nn.Linear:
        layer = self._place(strategy, task).find(model)
        assert isinstance(layer, nn.Linear)
        return layer

    def _features(self, strategy: Any, loading: Mapping[str, Any]) -> Tensor:
        teacher, data = self.reference, strategy.adapted_dataset
        assert teacher is not None
        (source,) = teacher.sources

        def ask(images: Tensor) -> Tensor:
            values = teacher.values(images, None, lambda m, x: avalanche_forward(m, x, self._task))
            rows: Tensor = values[source]
            return rows

        batches = feature_batches(
            data.eval(), ask, strategy.device,
            batch_size=strategy.eval_mb_size or strategy.train_mb_size,
            num_workers=int(loading.get("num_workers", 0)), collate_fn=data.collate_fn,
            about="features for the probe",
        )  # fmt: skip
        rows = torch.cat([batch.cpu() for batch in batches])
        teacher.forget()
        return rows

    @torch.no_grad()
    def _fit(self, task: int, layer: nn.Linear, rows: Tensor, labels: Tensor) -> None:
        classes, found = torch.unique(labels, return_inverse=True)
        if len(classes) < 2:
            if not self._told:
                self._told = True
                tell(
                    f"LP-FT leaves the head of task {task} as it is: an experience of one class "
                    "has nothing to tell apart (said once)"
                )
            return
        count, bias = len(classes), layer.bias is not None
        l2 = self.l2
        if l2 is None:
            held = held_out(found)
            chosen = select_probe(
                (rows[~held], found[~held]), (rows[held], found[held]), count,
                normalize=False, bias=bias,
            )  # fmt: skip
            l2 = chosen.l2
        probe = fit_probe(rows, found, count, l2, normalize=False, bias=bias)
        self.fitted[task] = probe.accuracy(rows, found)
        before = set(self._known.get(task, ()))
        put = torch.tensor([self.refit or c not in before for c in classes.tolist()])
        layer.weight[classes[put]] = probe.weight[put].to(layer.weight)
        if bias:
            layer.bias[classes[put]] = probe.bias[put].to(layer.bias)
        self._known[task] = sorted(before | set(classes.tolist()))

    # ---- a step -----------------------------------------------------------------------

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Take the gradients of the frozen part away, in the first steps."""
        if self._planned is None:
            together = getattr(strategy, "accumulate", 1)  # batches a step
            self._planned = math.ceil(len(strategy.dataloader) / together) * strategy.train_epochs
        self._done += 1
        if self._done > self.freeze_share * self._planned:
            return
        head = {id(p) for layer in self._heads for p in layer.parameters()}
        for parameter in strategy.model.parameters():
            if (id(parameter) in head) == (self.freeze == "head"):
                parameter.grad = None  # no update, no decay, no momentum

    def stop(self) -> None:
        """Let go of the head."""
        super().stop()
        self._heads = []

    def state_dict(self) -> dict[str, Any]:
        """The teacher, and how far the experience is."""
        own = {"done": self._done, "planned": self._planned}
        kept = {name: self.pending.get(name, value) for name, value in own.items()}
        known = {str(task): list(classes) for task, classes in self._known.items()}
        return {**super().state_dict(), **kept, "known": known}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over ``state``."""
        super().load_state_dict(state)
        self._known = {int(task): list(classes) for task, classes in state["known"].items()}
