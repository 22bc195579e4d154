"""MagMax as an Avalanche plugin."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from avalanche_proxyfda._checks import check_choice, check_number_on_weights
from avalanche_proxyfda._files import expanded
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.distributed.ranks import is_main
from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.plugins.base.lifecycle import ReferenceChoice
from avalanche_proxyfda.plugins.base.merged import MergedPlugin, tensors_of
from avalanche_proxyfda.weights.task_vectors import (
    add_scaled,
    largest,
    task_vector,
    vector_paths,
    write_vector,
)

Buffers = Literal["merge", "tuned"]


class MagMaxPlugin(MergedPlugin, supports_distributed=True):
    """Merges the changes of all experiences by magnitude (Marczak et al., ECCV 2024).

    After experience t, ``tau_t = theta_t - theta_0`` is what training has changed so far. The
    model that is evaluated has the weights ``theta_0 + scale tau``, where each entry of tau is
    the one of largest magnitude among ``tau_1 … tau_t``. The next experience goes on from
    ``theta_t``, the weights before merging: the plugin puts them back before other plugins of
    the next experience take a teacher or anchors. Training itself stays as it is. If an experience
    raises an exception, also before its first step, the model has the weights before merging.

    The plugin holds the start, the merged vector and ``theta_t``: three copies of the weights.

    Args:
        scale: lambda, the factor of the merged vector; 0 ships the start.
        feature_module, name: see :class:`AnchorPlugin`.
        anchor: ``"initial"`` takes tau_t from the weights as given, as the authors do.
            ``"previous"`` takes the change of each experience by itself; the start of the
            merged weights stays the model as given.
        buffers: ``"merge"`` treats BatchNorm's running statistics and other floating-point
            buffers of the encoder like weights, as the authors' code does; ``"tuned"`` keeps
            those of training. An encoder with running variances needs ``"tuned"`` with
            ``anchor="previous"``, whose sum of changes can make a variance negative.
        include_head: also merge the head's weights, as for a zero-shot head. Weights of the
            head that have no anchor keep their values.
        folder: where each tau_t is written, for
            :func:`~avalanche_proxyfda.weights.task_vectors.read_vectors`; None writes none.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range, and at the first
            experience for a folder that holds task vectors already, or for running variances
            that would be merged with ``anchor="previous"``.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import MagMaxPlugin
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugin = MagMaxPlugin(scale=0.5)
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> plugin.scale, plugin.tasks  # no experience is merged yet
        (0.5, 0)
    """

    def __init__(
        self,
        scale: float = 0.5,
        *,
        feature_module: str | None = None,
        anchor: ReferenceChoice = "initial",
        buffers: Buffers = "merge",
        include_head: bool = False,
        folder: str | os.PathLike[str] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            feature_module=feature_module, anchor=anchor, include_head=include_head, name=name
        )
        self.scale = check_number_on_weights("scale", scale)
        check_choice("buffers", buffers, get_args(Buffers))
        if buffers == "merge" and self.scale > 1:
            raise ValueError(
                f"scale={scale} above 1 can make merged variances of BatchNorm negative: take "
                "buffers='tuned'"
            )
        self.buffers: Buffers = buffers
        self.folder = None if folder is None else expanded(folder)
        self.tasks = 0
        """Experiences that are merged so far."""
        self._start: dict[str, Tensor] = {}  # theta_0
        self._merged: dict[str, Tensor] = {}  # tau
        self._tuned: dict[str, Tensor] = {}  # theta_t, while the model holds merged weights

    @torch.no_grad()
    def before_train_dataset_adaptation(self, strategy: Strategy, **kwargs: Any) -> None:
        """Put the weights before merging back: the earliest moment of an experience."""
        tensors = tensors_of(unwrap(strategy.model))
        for name, value in self._tuned.items():
            tensor = tensors.get(name)
            if tensor is None or tensor.shape[1:] != value.shape[1:]:
                continue
            if tensor.shape == value.shape:
                tensor.copy_(value)
            elif tensor.dim() and len(tensor) > len(value):  # a head that an evaluation grew
                tensor[: len(value)].copy_(value)
        self._tuned = {}

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Match tensors and anchors; keep the start; refuse a folder with other vectors."""
        super().prepare(strategy, state, new, loading)
        assert self.reference is not None
        if new and self.tasks == 0 and self.folder is not None and vector_paths(self.folder):
            raise ValueError(
                f"folder={str(self.folder)!r} holds task vectors of another training: delete "
                "them, or name another folder"
            )
        self._check_variances()
        anchors = self.reference.tensors
        for name in self._taken():
            self._start.setdefault(name, anchors[name])
        # with anchor="previous", a head that grew has anchors of its new shape
        grown = {n for n in self._names if anchors[n].shape != self._start[n].shape}
        self._names = [name for name in self._names if name not in grown]
        self.warn_of_missing(grown)

    def _check_variances(self) -> None:
        """Raise ValueError if merging could make a running variance negative.

        With ``anchor="initial"`` and a scale of at most 1, a merged variance lies between two
        variances of training.
        """
        variances = [n for n in self._buffer_names if n.rpartition(".")[2] == "running_var"]
        if self.choice == "previous" and self.buffers == "merge" and variances:
            raise ValueError(
                "anchor='previous' with buffers='merge' can make merged variances of BatchNorm "
                f"negative, such as {variances[0]}: take buffers='tuned', or anchor='initial'"
            )

    def _taken(self) -> list[str]:
        return self._names + (self._buffer_names if self.buffers == "merge" else [])

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Merge at the end of the experience."""
        if self.is_last_part(strategy):
            self._merge(unwrap(strategy.model))
        super().after_training_exp(strategy, **kwargs)

    @torch.no_grad()
    def _merge(self, model: nn.Module) -> None:
        assert self.reference is not None
        tensors = tensors_of(model)
        tuned = {name: tensors[name].detach().clone() for name in self._taken()}
        vector = task_vector({name: self.reference.tensors[name] for name in tuned}, tuned)
        if self.folder is not None and is_main():
            write_vector(self.folder, self.tasks, vector)
        self._merged = largest([self._merged, vector])
        self._tuned = {name: tuned[name] for name in vector}
        present = {name: self._merged[name] for name in vector}
        for name, value in add_scaled(self._start, present, self.scale).items():
            tensors[name].copy_(value)
        self.tasks += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the start, the merged vector, and the weights of the next experience."""
        own = {"start": self._start, "merged": self._merged, "tuned": self._tuned}
        return {**super().state_dict(), **{k: dict(v) for k, v in own.items()}, "tasks": self.tasks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        super().load_state_dict(state)
        self._start, self._merged, self._tuned = (
            dict(state[key]) for key in ("start", "merged", "tuned")
        )
        self.tasks = int(state["tasks"])
