"""Types for the attributes of Avalanche's objects that the package reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Clock(Protocol):
    """Avalanche's counters of a strategy.

    Attributes:
        train_iterations: training steps in all.
        train_exp_counter: experiences learnt.
        train_exp_epochs: epochs of the present experience.
        train_exp_iterations: steps of the present experience.
        train_epoch_iterations: steps of the present epoch.
    """

    train_iterations: int
    train_exp_counter: int
    train_exp_epochs: int
    train_exp_iterations: int
    train_epoch_iterations: int


class Strategy(Protocol):
    """An Avalanche SGD strategy, as plugins, metrics and checkpoints see it.

    Attributes:
        model: the model that is trained.
        optimizer: optimizer of the model.
        optimized_param_id: the optimizer's parameters by name; None before the first training.
        device: device of the training.
        plugins: the strategy's plugins, in the order of their callbacks.
        evaluator: Avalanche's evaluation plugin.
        clock: counters.
        experience: the present experience.
        adapted_dataset: training data of the present experience.
        dataloader: the present loader.
        train_epochs: epochs of an experience.
        train_mb_size: samples of a training batch.
        eval_mb_size: samples of an evaluation batch.
        mbatch: the present mini-batch: images, labels, and task labels if there are any.
        mb_x: images of the mini-batch.
        mb_output: output of the model for the mini-batch.
        loss: loss of the mini-batch.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    optimized_param_id: dict[str, nn.Parameter] | None
    device: torch.device
    plugins: list[Any]
    evaluator: Any
    clock: Clock
    experience: Any
    adapted_dataset: Any
    dataloader: Any
    train_epochs: int
    train_mb_size: int
    eval_mb_size: int
    mbatch: Any
    mb_output: Any
    loss: Any
    _criterion: Any

    @property
    def mb_x(self) -> Tensor:
        """Images of the mini-batch."""
        ...

    def make_optimizer(self, reset_optimizer_state: bool = False) -> None:
        """Match the optimizer with the model's parameters."""
        ...


class AccumulatingStrategy(Strategy, Protocol):
    """A strategy with :class:`~avalanche_proxyfda.strategies.EfficientTraining`.

    Attributes:
        precision: ``"float32"``, ``"bf16"`` or ``"fp16"``.
        accumulate: micro-batches of an optimizer step.
        share: share of the present micro-batch in the samples of its step.
        extra_forwards: forwards without gradient so far.
    """

    precision: str
    accumulate: int
    share: float
    extra_forwards: int

    def forward(self) -> Any:
        """Return the model's output for the present batch."""
        ...

    def _unpack_minibatch(self) -> None:
        """Move the present batch to the device."""
        ...


class Loader(Protocol):
    """A loader of mini-batches, torch's or Avalanche's."""

    def __len__(self) -> int:
        """Number of batches."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """The mini-batches."""
        ...


class LookAheadPlugin(Protocol):
    """A plugin whose loss relates all micro-batches of an optimizer step."""

    def start_look_ahead(self) -> None:
        """Start to read the forward of a micro-batch."""
        ...

    def keep_look_ahead(self, strategy: Any) -> None:
        """Keep the features of that micro-batch."""
        ...

    def join(self) -> None:
        """Compute the loss over all micro-batches of the step."""
        ...
