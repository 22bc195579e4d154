"""The plugins through which :class:`Checkpoints` follows a training."""

from __future__ import annotations

from typing import Any, Protocol

from avalanche.training.plugins.strategy_plugin import SupervisedPlugin

from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.checkpoint.strategy import NotSaved


class Follower(Protocol):
    """The moments of a training that the plugins report."""

    def begin_training(self, strategy: Strategy) -> None:
        """Called first before a training."""
        ...

    def begin_evaluation(self, strategy: Strategy) -> None:
        """Called first before an evaluation."""
        ...

    def begin_experience(self, workers: int) -> None:
        """Called last before an experience, with the number of processes that load images."""
        ...

    def begin_epoch_first(self) -> None:
        """Called first before an epoch."""
        ...

    def begin_epoch_last(self) -> None:
        """Called last before an epoch."""
        ...

    def end_step(self) -> None:
        """Called last after a mini-batch."""
        ...

    def end_training(self) -> None:
        """Called last after a training."""
        ...


class FirstPlugin(SupervisedPlugin[Any], NotSaved, supports_distributed=True):  # type: ignore[call-arg]
    """Runs before all other plugins.

    Args:
        follower: receives the moments.
    """

    def __init__(self, follower: Follower) -> None:
        super().__init__()
        self._follower = follower

    def before_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Report the start of a training."""
        self._follower.begin_training(strategy)

    def before_eval(self, strategy: Strategy, **kwargs: Any) -> None:
        """Report the start of an evaluation."""
        self._follower.begin_evaluation(strategy)

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Report the start of an epoch."""
        self._follower.begin_epoch_first()


class LastPlugin(SupervisedPlugin[Any], NotSaved, supports_distributed=True):  # type: ignore[call-arg]
    """Runs after all other plugins, also after the clock, which counts the steps.

    Args:
        follower: receives the moments.
    """

    def __init__(self, follower: Follower) -> None:
        super().__init__()
        self._follower = follower

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Report the start of an experience."""
        self._follower.begin_experience(int(kwargs.get("num_workers", 0)))

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Report the start of an epoch."""
        self._follower.begin_epoch_last()

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Report the end of a mini-batch."""
        self._follower.end_step()

    def after_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Report the end of a training."""
        self._follower.end_training()
