"""Replaces a strategy's training loader by one of hard-class batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda._random import generator, mixed_seed
from avalanche_proxyfda.data.labels import class_keys
from avalanche_proxyfda.data.sampler import HardClassBatchSampler
from avalanche_proxyfda.distributed.loaders import sliced, whole_batches
from avalanche_proxyfda.features.prototypes import class_prototypes

_SAMPLES_PER_CLASS = 4  # in a batch, if samples_per_class is None (the paper's n)


def _is_default(loader: Any, strategy: Strategy) -> bool:
    """Return True if Avalanche made ``loader``, False if another plugin did."""
    if type(loader).__name__ in ("TaskBalancedDataLoader", "SingleDatasetDataLoader"):
        return True
    same_data = getattr(loader, "dataset", None) is strategy.adapted_dataset
    return type(loader) is DataLoader and same_data and loader.batch_size == strategy.train_mb_size


class HardClassBatches:
    """The loader of one experience, and its sampler.

    Args:
        classes_per_batch: m, classes in a batch; fewer if the experience has fewer classes, or
            if the batch has no room.
        samples_per_class: n; None fills the strategy's ``train_mb_size``, with at least four
            samples of each class if there is room.
        seed: seed of the sampler's random stream.
    """

    def __init__(self, classes_per_batch: int, samples_per_class: int | None, seed: int) -> None:
        self.classes_per_batch = classes_per_batch
        self.samples_per_class = samples_per_class
        self.seed = seed
        self.sampler: HardClassBatchSampler | None = None
        # workers prefetch, so the sampler's own position is ahead of training
        self._first_epoch, self._epoch, self._trained = 0, 0, 0
        self._resumed = False
        self._warned = False

    def sizes(self, classes: int, budget: int) -> tuple[int, int]:
        """Return (m, n) for an experience of ``classes`` and batches of at most ``budget``."""
        most = min(self.classes_per_batch, classes)
        if self.samples_per_class is not None:
            return max(1, min(most, budget // self.samples_per_class)), self.samples_per_class
        m = max(min(2, most), min(most, budget // _SAMPLES_PER_CLASS))
        return m, max(1, budget // m)

    def install(
        self, strategy: Strategy, features: Callable[[Tensor], Tensor], loading: Mapping[str, Any]
    ) -> None:
        """Replace ``strategy.dataloader``, unless another plugin has replaced it.

        ``shuffle`` and ``drop_last`` do not apply: the sampler draws batches, and all are full.

        Args:
            strategy: an Avalanche strategy in ``before_training_exp``.
            features: the teacher as a function of images, for the prototypes.
            loading: the keyword arguments of ``strategy.train``.

        Raises:
            ValueError: for an experience with a single class.
        """
        data, loader = strategy.adapted_dataset, strategy.dataloader
        keys = class_keys(data)
        classes = len(set(keys.tolist()))
        if classes < 2:
            raise ValueError(
                f"experience {strategy.experience.current_experience} has one class, so there "
                "are no classes to mix in a batch: pass hard_class_batches=False"
            )
        m, n = self.sizes(classes, strategy.train_mb_size)
        seed = mixed_seed("experience", self.seed, strategy.clock.train_exp_counter)
        sampler = whole_batches(loader)
        if isinstance(sampler, HardClassBatchSampler):  # of another plugin of this package
            self.sampler = sampler
            installed = (sampler.classes_per_batch, sampler.samples_per_class, sampler.seed)
            if (m, n, seed) != installed:
                self._warn_once(
                    "the hard-class batches of the plugin before it, which differ in size or "
                    "seed: give both the same, or"
                )
            return
        if not _is_default(loader, strategy):
            self.sampler = None
            self._warn_of_loader(loader)
            return
        workers = int(loading.get("num_workers", 0))
        prototypes = None
        if classes > m:  # else every class is in every batch, and there is no choice
            prototypes = class_prototypes(
                data.eval(),
                keys,
                features,
                strategy.device,
                batch_size=strategy.eval_mb_size or strategy.train_mb_size,
                num_workers=workers,
                collate_fn=data.collate_fn,
            )
        self.sampler = HardClassBatchSampler(keys, prototypes, m, n, seed=seed)
        pin = loading.get("pin_memory")
        strategy.dataloader = sliced(
            DataLoader(
                data,
                batch_sampler=self.sampler,
                collate_fn=data.collate_fn,
                num_workers=workers,
                pin_memory=strategy.device.type == "cuda" if pin is None else bool(pin),
                persistent_workers=workers > 0 and bool(loading.get("persistent_workers", False)),
                generator=generator("workers", seed),  # else torch's global one seeds workers
            )
        )

    def start_epoch(self, strategy: Strategy) -> None:
        """Set the sampler's epoch; warn once if another plugin has replaced the loader."""
        if self.sampler is None:
            return
        # its data may be wrapped, and its batches cut to the rows of a rank
        if whole_batches(strategy.dataloader) is not self.sampler:
            self._warn_of_loader(strategy.dataloader)
            self.remove()
            return
        counted = strategy.clock.train_exp_epochs
        if self._resumed:  # the clock may be restored as well, or begin at 0 again
            self._first_epoch, self._resumed = self._first_epoch - counted, False
        epoch = self._first_epoch + counted
        if epoch != self._epoch:
            self._epoch, self._trained = epoch, 0
        self.sampler.set_epoch(epoch)

    def count_step(self) -> None:
        """Count one more batch of the epoch as trained."""
        self._trained += 1

    def state_dict(self) -> dict[str, Any] | None:
        """Return the sampler's state at the batch of training; None without a sampler."""
        if self.sampler is None:
            return None
        return {"seed": self.sampler.seed, "epoch": self._epoch, "position": self._trained}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Resume within the experience of ``state``.

        Epochs continue from the state's epoch, even if Avalanche counts them from 0 again.
        """
        if self.sampler is not None:
            self.sampler.load_state_dict(state)
            self._resumed = True
            self._first_epoch = self._epoch = int(state["epoch"])
            self._trained = int(state["position"])

    def remove(self) -> None:
        """Release the sampler."""
        self.sampler = None
        self._first_epoch = self._epoch = self._trained = 0
        self._resumed = False

    def _warn_of_loader(self, loader: object) -> None:
        self._warn_once(f"the {type(loader).__name__} of another plugin (Replay, for example):")

    def _warn_once(self, replacement: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"hard_class_batches gives way to {replacement} pass hard_class_batches=False if "
                "this is intended",
                stacklevel=5,
            )
