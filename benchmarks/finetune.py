"""What all methods share in training: learning rates, clipping, batches, the clock."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda.distributed.plugin import batch_size
from avalanche_proxyfda.plugins.batches import HardClassBatches

_COUNTED = ("seconds", "forwards", "samples", "peak_rss")


class WarmUpCosine(SupervisedPlugin[Any], supports_distributed=True):
    """Sets the learning rate of every step of an experience, and clips gradients.

    The peak of a parameter group is the rate that it has before the first experience.

    Args:
        warm_up: share of an experience's steps that the rate rises in.
        clip: largest norm of the gradient.
    """

    def __init__(self, warm_up: float = 0.1, clip: float = 1.0) -> None:
        super().__init__()
        self.warm_up, self.clip = warm_up, clip
        self._peaks: list[float] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The peaks."""
        return {"peaks": self._peaks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over ``state``."""
        self._peaks = state["peaks"]

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Note the peaks, once."""
        if self._peaks is None:
            self._peaks = [group["lr"] for group in strategy.optimizer.param_groups]

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Set this step's learning rate."""
        total = len(strategy.dataloader) * strategy.train_epochs
        done = strategy.clock.train_exp_iterations
        rising = max(1.0, self.warm_up * total)
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, done / total)))
        assert self._peaks is not None
        for group, peak in zip(strategy.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * min((done + 1) / rising, decay)

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Clip the model's gradient."""
        torch.nn.utils.clip_grad_norm_(strategy.model.parameters(), self.clip)


class StepTimer(SupervisedPlugin[Any], supports_distributed=True):
    """Seconds of each training step, from its start to its end, and a call after each.

    Attributes:
        seconds: of each step.
        forwards: of the student, as the strategy makes them.
        samples: images trained on, by all ranks.
        peak_rss: the most memory that the process held after a step, in bytes.
    """

    def __init__(self, after_step: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.forwards = self.samples = self.peak_rss = 0
        self._after_step = after_step
        self._start = 0.0
        self._process = psutil.Process()

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._start = self._now(strategy.device)

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Count."""
        self.forwards += 1
        self.samples += batch_size(strategy)

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        self.seconds.append(self._now(strategy.device) - self._start)
        self.peak_rss = max(self.peak_rss, self._process.memory_info().rss)
        if self._after_step is not None:
            self._after_step()

    def catch_up(self) -> None:
        """Call for the steps that an earlier process made."""
        if self._after_step is not None:
            for _ in self.seconds:
                self._after_step()

    def state_dict(self) -> dict[str, Any]:
        """What was counted."""
        return {name: getattr(self, name) for name in _COUNTED}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over ``state``."""
        for name in _COUNTED:
            setattr(self, name, state[name])

    @staticmethod
    def _now(device: torch.device) -> float:
        if device.type == "cuda":  # else the time to launch kernels would be taken
            torch.cuda.synchronize(device)
        return time.perf_counter()


class KeptInEval(SupervisedPlugin[Any], supports_distributed=True):
    """Keeps modules of the tower in eval mode in training, which ``train`` undoes.

    Args:
        all_of_it: the whole tower, as when it is frozen; else its batch norms alone, which
            then normalise by the statistics of pre-training.
    """

    def __init__(self, all_of_it: bool) -> None:
        super().__init__()
        self.all_of_it = all_of_it

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Put them back."""
        tower = strategy.model.tower
        for module in tower.modules():
            if self.all_of_it or isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.training = False


class BalancedBatches(SupervisedPlugin[Any], supports_distributed=True):
    """Gives every method the same batches, those that FDA's plugins ask for.

    Related classes are found by the pre-trained tower, which no method has changed.

    Args:
        tower: pre-trained; copied.
        classes: in a batch, at most.
        samples: of each; None fills the batch.
        seed: of the batches.
    """

    def __init__(self, tower: nn.Module, classes: int, samples: int | None, seed: int) -> None:
        super().__init__()
        self.batches = HardClassBatches(classes, samples, seed)
        self._tower = copy.deepcopy(tower).eval().requires_grad_(False)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Replace the loader."""

        def features(images: Tensor) -> Tensor:  # not asked where every class is in every batch
            rows: Tensor = self._tower.to(images.device)(images)
            return rows

        self.batches.install(strategy, features, kwargs)
        self._tower.cpu()  # needed again in the next experience, not in a step

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Choose the epoch's batches."""
        self.batches.start_epoch(strategy)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: where an epoch's batches go on is the checkpoint's business."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to do."""
