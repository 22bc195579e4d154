"""Puts hard-class batches in the place of a strategy's own training loader."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from avalanche_proxyfda.distributed.loaders import sliced, whole_batches
from avalanche_proxyfda.plugins.labels import class_keys
from avalanche_proxyfda.prototypes import class_prototypes
from avalanche_proxyfda.rng import generator, mixed_seed
from avalanche_proxyfda.sampling import HardClassBatchSampler

_FEW = 4  # samples a class that a batch should hold when nothing else is said (the paper's n)


def _made_by_avalanche(loader: Any, strategy: Any) -> bool:
    """Whether ``loader`` is the strategy's own, not one that another plugin put there."""
    if type(loader).__name__ in ("TaskBalancedDataLoader", "SingleDatasetDataLoader"):
        return True
    same_data = getattr(loader, "dataset", None) is strategy.adapted_dataset
    return type(loader) is DataLoader and same_data and loader.batch_size == strategy.train_mb_size


class HardClassBatches:
    """The loader of one experience, and the sampler behind it.

    Args:
        classes_per_batch: m; fewer where there are fewer, or where the batch has no room.
        samples_per_class: n; None fills the strategy's ``train_mb_size``, with at least four
            a class where there is room.
        seed: names the sampler's random stream.
    """

    def __init__(self, classes_per_batch: int, samples_per_class: int | None, seed: int) -> None:
        self.classes_per_batch = classes_per_batch
        self.samples_per_class = samples_per_class
        self.seed = seed
        self.sampler: HardClassBatchSampler | None = None
        # the sampler itself is ahead of training, by what workers prefetch
        self._first_epoch, self._epoch, self._trained = 0, 0, 0
        self._resumed = False
        self._told = False

    def sizes(self, classes: int, budget: int) -> tuple[int, int]:
        """(m, n) for an experience of ``classes`` and batches of at most ``budget``."""
        most = min(self.classes_per_batch, classes)
        if self.samples_per_class is not None:
            return max(1, min(most, budget // self.samples_per_class)), self.samples_per_class
        m = max(min(2, most), min(most, budget // _FEW))
        return m, max(1, budget // m)

    def install(
        self, strategy: Any, features: Callable[[Tensor], Tensor], loading: Mapping[str, Any]
    ) -> None:
        """Replace ``strategy.dataloader``, unless another plugin has put its own there.

        ``shuffle`` and ``drop_last`` do not apply: batches are drawn, and all are full.

        Args:
            strategy: an Avalanche strategy in ``before_training_exp``.
            features: the teacher, for the prototypes.
            loading: the keyword arguments of ``strategy.train``.

        Raises:
            ValueError: for an experience with a single class.
        """
        data, present = strategy.adapted_dataset, strategy.dataloader
        keys = class_keys(data)
        classes = len(set(keys.tolist()))
        if classes < 2:
            raise ValueError(
                f"experience {strategy.experience.current_experience} has one class, so there "
                "are no classes to mix in a batch: pass hard_class_batches=False"
            )
        m, n = self.sizes(classes, strategy.train_mb_size)
        seed = mixed_seed("experience", self.seed, strategy.clock.train_exp_counter)
        ready = whole_batches(present)
        if isinstance(ready, HardClassBatchSampler):  # put there by another plugin of ours
            self.sampler = ready
            if (m, n, seed) != (ready.classes_per_batch, ready.samples_per_class, ready.seed):
                self._tell("the hard-class batches of the plugin before it, which differ in size "
                           "or seed. Give both the same, or")  # fmt: skip
            return
        if not _made_by_avalanche(present, strategy):
            self.sampler = None
            self._tell_of(present)
            return
        workers = int(loading.get("num_workers", 0))
        prototypes = None
        if classes > m:  # else every class is in every batch, and none has to be chosen
            prototypes = class_prototypes(
                data.eval(), keys, features, strategy.device,
                batch_size=strategy.eval_mb_size or strategy.train_mb_size,
                num_workers=workers, collate_fn=data.collate_fn,
            )  # fmt: skip
        self.sampler = HardClassBatchSampler(keys, prototypes, m, n, seed=seed)
        pin = loading.get("pin_memory")
        loader = DataLoader(
            data, batch_sampler=self.sampler, collate_fn=data.collate_fn, num_workers=workers,
            pin_memory=strategy.device.type == "cuda" if pin is None else bool(pin),
            persistent_workers=workers > 0 and bool(loading.get("persistent_workers", False)),
            generator=generator("workers", seed),  # else worker seeds come from torch's global one
        )  # fmt: skip
        strategy.dataloader = sliced(loader)

    def start_epoch(self, strategy: Any) -> None:
        """Choose the sampler's epoch; warn once if the loader was replaced meanwhile."""
        if self.sampler is None:
            return
        # its data may have been wrapped, and its batches cut to a rank's rows
        if whole_batches(strategy.dataloader) is not self.sampler:
            self._tell_of(strategy.dataloader)
            self.remove()
            return
        counted = strategy.clock.train_exp_epochs
        if self._resumed:  # the count may have been put back as well, or begin at 0 again
            self._first_epoch, self._resumed = self._first_epoch - counted, False
        epoch = self._first_epoch + counted
        if epoch != self._epoch:
            self._epoch, self._trained = epoch, 0
        self.sampler.set_epoch(epoch)

    def count_step(self) -> None:
        """Say that one more batch was trained on."""
        self._trained += 1

    def state_dict(self) -> dict[str, Any] | None:
        """The sampler's state as training has it; None without a sampler."""
        if self.sampler is None:
            return None
        return {"seed": self.sampler.seed, "epoch": self._epoch, "position": self._trained}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on inside the experience that ``state`` was taken in.

        Where Avalanche counts the epochs from 0 again, they go on here all the same.
        """
        if self.sampler is not None:
            self.sampler.load_state_dict(state)
            self._resumed = True
            self._first_epoch = self._epoch = int(state["epoch"])
            self._trained = int(state["position"])

    def remove(self) -> None:
        """Let go of the loader and its sampler."""
        self.sampler = None
        self._first_epoch = self._epoch = self._trained = 0
        self._resumed = False

    def _tell_of(self, loader: object) -> None:
        self._tell(f"the {type(loader).__name__} of another plugin (Replay, for example).")

    def _tell(self, what: str) -> None:
        if not self._told:
            self._told = True
            warnings.warn(
                f"hard_class_batches gives way to {what} pass hard_class_batches=False to say "
                "that this is meant",
                stacklevel=5,
            )
