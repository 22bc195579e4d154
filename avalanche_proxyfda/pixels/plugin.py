"""The plugin that gives an Avalanche strategy loaders which live across epochs."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from typing import Any

from avalanche.training.plugins.strategy_plugin import SupervisedPlugin
from torch.utils.data import DataLoader

from avalanche_proxyfda._accelerator import pins_memory
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda._random import generator, mixed_seed
from avalanche_proxyfda.data.keyed import KeyedSamples, ShuffledBatches
from avalanche_proxyfda.data.loaders import datasets_of
from avalanche_proxyfda.data.steady import SteadyLoader
from avalanche_proxyfda.pixels.batch import counts

_log = logging.getLogger(__name__)
_MANY = 0.1


class InputPipeline(SupervisedPlugin[Any], supports_distributed=True):  # type: ignore[call-arg]
    """Replaces a strategy's default training loader by a steady one with keyed views.

    The plugin stands before the plugins that choose batches, such as FDA's, and keeps their
    choice. The order of shuffled batches and each random view of a
    :class:`~avalanche_proxyfda.pixels.views.PixelView` depend on seed, experience, epoch and
    sample, so neither a resume nor the number of worker processes changes them. The worker
    processes live until the experience ends and load the next epoch before this one ends;
    memory is pinned if that speeds up copies to the device.

    A loader of another plugin, such as Replay's, and options that change the default loader's
    batches stay as they are, with a warning; so does the loader of an experience with several
    task labels.

    Args:
        seed: seed of orders and views.

    Attributes:
        read: images of the last experience by the way they were read, see
            :data:`~avalanche_proxyfda.pixels.decode.WAYS`.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import FDAPlugin
        >>> from avalanche_proxyfda.pixels import InputPipeline
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugins = [InputPipeline(seed=1), FDAPlugin()]  # before the plugin that chooses batches
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=plugins, train_mb_size=64)
        >>> strategy.plugins[0].seed
        1
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.read: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._warned = self._said = self._placed = False

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Replace the loader."""
        self._before = Counter(counts)
        loader, data = strategy.dataloader, strategy.adapted_dataset
        reason = _obstacle(loader, data, kwargs)
        self._placed = reason is None
        if reason is not None:
            self._warn(reason)
            return
        seed = mixed_seed("input", self.seed, strategy.clock.train_exp_counter)
        workers = int(kwargs.get("num_workers", 0))
        pin = kwargs.get("pin_memory")
        strategy.dataloader = SteadyLoader(
            KeyedSamples(data, seed),
            ShuffledBatches(len(data), strategy.train_mb_size, seed),
            collate_fn=data.collate_fn,
            num_workers=workers,
            pin_memory=pins_memory(strategy.device) if pin is None else bool(pin),
            generator=generator("workers", seed),  # else torch's global one seeds workers
        )

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Set the loader's epoch, which a checkpoint may have restored."""
        if isinstance(strategy.dataloader, SteadyLoader):
            clock = strategy.clock
            strategy.dataloader.set_epochs(clock.train_exp_epochs, strategy.train_epochs)
        elif self._placed:
            self._warn(f"the {type(strategy.dataloader).__name__} of another plugin replaced it")

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Say how the images were read; warn once if PIL read many of them."""
        self.read = Counter(counts) - self._before
        total = sum(self.read.values())
        if not total:
            return
        said = ", ".join(f"{way} {n}" for way, n in self.read.items())
        _log.info("images of the experience by the way they were read: %s", said)
        if self.read["pil"] > _MANY * total and not self._said:
            self._said = True
            warnings.warn(
                f"{self.read['pil']} of {total} images were read at the speed of PIL, since they "
                "are no plain JPEGs (other format, CMYK, EXIF rotation, a reader of the data set): "
                "store resized images with train.pipeline=cached, or save them as JPEGs",
                stacklevel=2,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: orders and views depend on seed, epoch and sample alone."""
        return {}

    def load_state_dict(self, state: Any) -> None:
        """Load nothing."""

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"the input pipeline leaves the training loader as it is: {reason}; its order and "
                "its random views are not keyed",
                stacklevel=3,
            )


def _obstacle(loader: Any, data: Any, loading: dict[str, Any]) -> str | None:
    """Return the reason why a loader must stay; None for Avalanche's default loader."""
    options = {"shuffle": True, "drop_last": False}
    for name, default in options.items():
        if loading.get(name, default) != default:
            return f"{name}={loading[name]} was given"
    datasets = datasets_of(loader)
    default = type(loader).__name__ == "TaskBalancedDataLoader" or type(loader) is DataLoader
    if datasets is None or not default:
        return f"it is the {type(loader).__name__} of another plugin"
    if len(datasets) > 1:
        return "the experience has several task labels, whose samples it balances"
    if len(datasets[0]) != len(data):
        return "it reads other data than the experience's"
    return None
