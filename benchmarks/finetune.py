"""The fine-tuning recipe shared by all methods: warm-up, cosine decay, gradient clipping."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin


class WarmUpCosine(SupervisedPlugin[Any]):
    """Sets the learning rate of every step of an experience, and clips gradients.

    Args:
        peak: the learning rate after warm-up.
        warm_up: share of an experience's steps that the rate rises in.
        clip: largest norm of the gradient.
    """

    def __init__(self, peak: float, warm_up: float = 0.1, clip: float = 1.0) -> None:
        super().__init__()
        self.peak, self.warm_up, self.clip = peak, warm_up, clip

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Set this step's learning rate."""
        total = len(strategy.dataloader) * strategy.train_epochs
        done = strategy.clock.train_exp_iterations
        rising = max(1.0, self.warm_up * total)
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, done / total)))
        for group in strategy.optimizer.param_groups:
            group["lr"] = self.peak * min((done + 1) / rising, decay)

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Clip the model's gradient."""
        torch.nn.utils.clip_grad_norm_(strategy.model.parameters(), self.clip)


class StepTimer(SupervisedPlugin[Any]):
    """Seconds of each training step, from its start to its end, and a call after each."""

    def __init__(self, after_step: Any = None) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._after_step = after_step
        self._start = 0.0

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self._start)
        if self._after_step is not None:
            self._after_step()
