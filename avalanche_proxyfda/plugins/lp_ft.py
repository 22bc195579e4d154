"""LP-FT as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from avalanche.models.utils import avalanche_forward
from torch import Tensor, nn

from avalanche_proxyfda._checks import check_amount, check_choice
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.data.labels import labels_and_tasks, task_classes
from avalanche_proxyfda.distributed.ranks import computed_by_main
from avalanche_proxyfda.features.linear_probe import (
    GRID,
    Probe,
    fit_probe,
    held_out,
    select_probe,
)
from avalanche_proxyfda.features.passes import feature_batches, on_host
from avalanche_proxyfda.features.source import FeatureSource, unwrap
from avalanche_proxyfda.plugins.base.heads import last_linear, task_head
from avalanche_proxyfda.plugins.base.lifecycle import ReferenceChoice, ReferencePlugin
from avalanche_proxyfda.strategies.budget import planned_steps
from avalanche_proxyfda.strategies.precision import autocast_dtype
from avalanche_proxyfda.teacher.teacher import FeatureTeacher

Frozen = Literal["head", "encoder"]


class LPFTPlugin(ReferencePlugin[FeatureTeacher], supports_distributed=True):
    """Linear probing, then fine-tuning (Kumar et al., ICLR 2022).

    Before each experience, the plugin fits a linear probe to the teacher's features of the
    training data (evaluation view, one pass). It copies the probe into the head, into the rows
    of the experience's classes, for each of its tasks; the other rows stay. The features are
    the input of the head's last linear layer, so a head that normalises needs no special case.
    Training follows, and a step costs nothing more.

    The plugin must stand before the other plugins of this package: their teachers and anchors
    need the new head. In an online stream the probe is fitted to the first part of an
    experience.

    Args:
        feature_module, name: see :class:`ReferencePlugin`.
        teacher: ``"previous"`` fits the probe to the model as it stands, ``"initial"`` to
            the model as first given.
        l2: the probe's penalty; None chooses it on a fifth of the training data, which is held
            out, and then fits the probe to all of it.
        head: name of the head's last linear layer. None searches for it; training fails with a
            ValueError where no single layer matches.
        freeze_share: share of the experience's steps, from its first, in which a part of the
            model gets no update. In an online stream the share is of the first part's steps.
        freeze: the part without updates: the ``"head"``'s last linear layer, or the
            ``"encoder"``, which is the model without that layer. The batch norms of a frozen
            encoder keep their statistics and use them, as the probe's features did.
        refit: True fits classes again when they come back with new images (learning by
            domain); False keeps their rows.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import L2SPPlugin, LPFTPlugin
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugins = [LPFTPlugin(freeze_share=0.1), L2SPPlugin()]  # in this order
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=plugins, train_mb_size=64)
        >>> plugins[0].freeze_share, plugins[0].freeze
        (0.1, 'head')
    """

    option = "teacher of the probe"

    def __init__(
        self,
        *,
        feature_module: str | None = None,
        teacher: ReferenceChoice = "previous",
        l2: float | None = None,
        head: str | None = None,
        freeze_share: float = 0.0,
        freeze: Frozen = "head",
        refit: bool = True,
        name: str | None = None,
    ) -> None:
        check_choice("teacher", teacher, get_args(ReferenceChoice))
        super().__init__(choice=teacher, feature_module=feature_module, name=name)
        if l2 is not None and check_amount("l2", l2) == 0:
            raise ValueError("l2=0 must be positive, or None to choose it")
        if check_amount("freeze_share", freeze_share) > 1:
            raise ValueError(f"freeze_share={freeze_share} must lie in [0, 1]")
        check_choice("freeze", freeze, get_args(Frozen))
        self.l2, self.head, self.freeze_share, self.freeze = l2, head, freeze_share, freeze
        self.refit = refit
        self._fitted_classes: dict[int, list[int]] = {}  # so far, by task
        self.fitted: dict[int, float] = {}
        """Training accuracy of the probe of each task of the last experience."""
        self._task = 0  # the task whose head ends the teacher's forward
        self._heads: list[nn.Linear] = []
        self._stilled: list[nn.Module] = []  # batch norms in eval mode for a step
        self._steps_done = 0  # of this experience
        self._steps_planned: int | None = None  # of this experience, at its first step

    # ---- the teacher ------------------------------------------------------------------

    def _place(self, strategy: Strategy, task: int) -> FeatureSource:
        """Return the input of the last linear layer of the task's head."""
        model = unwrap(strategy.model)
        return FeatureSource(last_linear(model, task, self.embedding(model), self.head), True)

    def make_reference(self, strategy: Strategy) -> FeatureTeacher:
        """Return a copy of the model; the input of the head is the same for every task."""
        self._task = min(task for task, _ in task_classes(strategy.adapted_dataset))
        return FeatureTeacher(strategy.model, [self._place(strategy, self._task)])

    def restore_reference(self, strategy: Strategy, state: Any) -> FeatureTeacher:
        """Return the teacher of a saved state."""
        self._task = int(state["task"])
        place = self._place(strategy, self._task)
        return FeatureTeacher.restore(strategy.model, [place], state["teacher"])

    def reference_state(self, reference: FeatureTeacher) -> Any:
        """Return the teacher's weights, and the task of the head where its forward ends."""
        return {"task": self._task, "teacher": reference.state_dict()}

    # ---- an experience ----------------------------------------------------------------

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Fit the probes, and copy them into the head."""
        for plugin in self.plugins_before(strategy):
            raise ValueError(
                f"{type(plugin).__name__} has taken its {plugin.option} before LPFTPlugin "
                "changes the head: put LPFTPlugin before it in plugins"
            )
        model = unwrap(strategy.model)
        labels, groups = labels_and_tasks(strategy.adapted_dataset)
        if task_head(model, self.embedding(model)) is None:
            groups = torch.zeros_like(groups)  # one label space for all tasks
        tasks = sorted(set(groups.tolist()))
        layers = {task: self._layer(strategy, model, task) for task in tasks}
        self._heads = list(dict.fromkeys(layers.values()))
        if new:
            self.fitted = {}
            self._steps_done, self._steps_planned = 0, None
            present = {task: set(labels[groups == task].tolist()) for task in tasks}
            for task, layer in layers.items():
                if max(present[task]) >= layer.out_features:
                    raise ValueError(
                        f"class {max(present[task])} of task {task} has no unit: the head has "
                        f"{layer.out_features} units; build the model with a larger head, or with "
                        "one that grows"
                    )
            due = [
                task
                for task in tasks
                if self.refit or present[task] - set(self._fitted_classes.get(task, ()))
            ]
            own = {task: labels[groups == task] for task in due}
            due = [task for task in due if self._can_fit(task, own[task])]

            def probes() -> dict[int, tuple[Probe, float]]:
                rows = self._features(strategy, loading)
                return {
                    task: self._probe(rows[groups == task], own[task], layers[task]) for task in due
                }

            for task, (probe, accuracy) in computed_by_main(probes).items() if due else ():
                self.fitted[task] = accuracy
                self._copy(task, probe, layers[task], own[task])
        elif state:
            self._steps_done, self._steps_planned = state["done"], state["planned"]
        if self.choice == "previous":
            self.reference = None  # training does not need it

    def _layer(self, strategy: Strategy, model: nn.Module, task: int) -> nn.Linear:
        layer = self._place(strategy, task).find(model)
        assert isinstance(layer, nn.Linear)
        return layer

    def _features(self, strategy: Strategy, loading: Mapping[str, Any]) -> Tensor:
        """Return the teacher's features of the experience's training data, [N, D]."""
        teacher, data = self.reference, strategy.adapted_dataset
        assert teacher is not None
        (source,) = teacher.sources

        lower = autocast_dtype(strategy)

        def ask(images: Tensor) -> Tensor:
            values = teacher.values(images, lower, lambda m, x: avalanche_forward(m, x, self._task))
            rows: Tensor = values[source]
            return rows

        batches = feature_batches(
            data.eval(),
            ask,
            strategy.device,
            batch_size=strategy.eval_mb_size or strategy.train_mb_size,
            num_workers=int(loading.get("num_workers", 0)),
            collate_fn=data.collate_fn,
            about="features for the probe",
        )
        rows = on_host(batches)
        teacher.forget()
        return rows

    def _can_fit(self, task: int, labels: Tensor) -> bool:
        """Return False for a task with one class, with a warning."""
        if len(torch.unique(labels)) < 2:
            self.warn_once(
                "one class",
                f"LP-FT leaves the head of task {task} as it is: a probe needs two classes, and "
                "the experience has one (this warning comes once)",
            )
            return False
        return True

    @torch.no_grad()
    def _probe(self, rows: Tensor, labels: Tensor, layer: nn.Linear) -> tuple[Probe, float]:
        """Return a probe of the features [N, D] of a task, and its training accuracy.

        The probe is fitted on the layer's device, and is on the CPU then, to be sent to ranks.
        """
        classes, targets = torch.unique(labels, return_inverse=True)
        count, l2, bias = len(classes), self.l2, layer.bias is not None
        rows, targets = rows.to(layer.weight.device), targets.to(layer.weight.device)
        if l2 is None:
            held = held_out(targets)
            train, validation = (rows[~held], targets[~held]), (rows[held], targets[held])
            l2 = max(GRID)  # of one image a class none is held out
            if len(validation[0]):
                l2 = select_probe(train, validation, count, normalize=False, bias=bias).l2
        probe = fit_probe(rows, targets, count, l2, normalize=False, bias=bias)
        accuracy = probe.accuracy(rows, targets)
        return replace(probe, weight=probe.weight.cpu(), bias=probe.bias.cpu()), accuracy

    @torch.no_grad()
    def _copy(self, task: int, probe: Probe, layer: nn.Linear, labels: Tensor) -> None:
        """Copy a probe into the layer of its task."""
        classes = torch.unique(labels)
        before = set(self._fitted_classes.get(task, ()))
        copied = torch.tensor([self.refit or c not in before for c in classes.tolist()])
        to = classes[copied].to(layer.weight.device)
        layer.weight[to] = probe.weight[copied].to(layer.weight)
        if layer.bias is not None:
            layer.bias[to] = probe.bias[copied].to(layer.bias)
        self._fitted_classes[task] = sorted(before | set(classes.tolist()))

    # ---- a step -----------------------------------------------------------------------

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Put a frozen encoder's batch norms into eval mode for the step."""
        super().before_training_iteration(strategy, **kwargs)
        if self.freeze == "encoder" and self._freezes(strategy, self._steps_done + 1):
            self._stilled = [
                module
                for module in strategy.model.modules()
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
            ]
            for module in self._stilled:
                module.eval()

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Put the batch norms back into training mode."""
        self._release()
        super().after_training_iteration(strategy, **kwargs)

    def _release(self) -> None:
        for module in self._stilled:
            module.train()
        self._stilled = []

    def _freezes(self, strategy: Strategy, step: int) -> bool:
        """Return True if a part is frozen in this step of the experience, which counts from 1."""
        if self._steps_planned is None:
            self._steps_planned = planned_steps(strategy)
        return step <= self.freeze_share * self._steps_planned

    def before_update(self, strategy: Strategy, **kwargs: Any) -> None:
        """Remove the gradients of the frozen part in the first steps."""
        self._steps_done += 1
        if not self._freezes(strategy, self._steps_done):
            return
        head = {id(p) for layer in self._heads for p in layer.parameters()}
        for parameter in strategy.model.parameters():
            if (id(parameter) in head) == (self.freeze == "head"):
                parameter.grad = None  # no update, no decay, no momentum

    def stop(self) -> None:
        """End an experience; release the head."""
        super().stop()
        self._release()
        self._heads = []

    # ---- saved state ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the teacher, the steps of the experience, and the fitted classes."""
        steps = {"done": self._steps_done, "planned": self._steps_planned}
        resumable = {name: self.pending.get(name, value) for name, value in steps.items()}
        classes = {str(task): list(labels) for task, labels in self._fitted_classes.items()}
        return {**super().state_dict(), **resumable, "known": classes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        super().load_state_dict(state)
        self._fitted_classes = {int(task): list(labels) for task, labels in state["known"].items()}
