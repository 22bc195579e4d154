"""Puts hard-class batches in the place of a strategy's own training loader."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from avalanche_proxyfda.prototypes import class_prototypes
from avalanche_proxyfda.rng import generator, mixed_seed
from avalanche_proxyfda.sampling import HardClassBatchSampler

# what Avalanche's templates make; any other loader was put there by another plugin
_PLAIN = ("TaskBalancedDataLoader", "SingleDatasetDataLoader", "DataLoader")


class HardClassBatches:
    """The loader of one experience, and the sampler behind it.

    Args:
        classes_per_batch: m; at most the classes there are and ``train_mb_size``.
        samples_per_class: n; None fills the strategy's ``train_mb_size``.
        seed: names the sampler's random stream.
    """

    def __init__(self, classes_per_batch: int, samples_per_class: int | None, seed: int) -> None:
        self.classes_per_batch = classes_per_batch
        self.samples_per_class = samples_per_class
        self.seed = seed
        self.sampler: HardClassBatchSampler | None = None
        self._loader: Any = None
        self._epoch, self._trained = 0, 0  # the sampler itself is ahead, by what workers prefetch
        self._told = False

    def install(
        self, strategy: Any, features: Callable[[Tensor], Tensor], loading: dict[str, Any]
    ) -> None:
        """Replace ``strategy.dataloader``, unless another plugin has put its own there.

        Args:
            strategy: an Avalanche strategy in ``before_training_exp``.
            features: the teacher, for the prototypes.
            loading: the keyword arguments of ``strategy.train``.

        Raises:
            ValueError: for an experience with a single class.
        """
        labels = torch.as_tensor([int(y) for y in strategy.adapted_dataset.targets])
        classes = len(set(labels.tolist()))
        if classes < 2:
            raise ValueError(
                f"experience {strategy.experience.current_experience} has one class, so there "
                "are no classes to mix in a batch: pass hard_class_batches=False"
            )
        present = strategy.dataloader
        ready = getattr(present, "batch_sampler", None)
        if isinstance(ready, HardClassBatchSampler):  # put there by another plugin of ours
            self.sampler, self._loader = ready, present
            return
        if type(present).__name__ not in _PLAIN:
            self.sampler = self._loader = None
            self._tell(present)
            return
        budget = strategy.train_mb_size
        wanted = min(self.classes_per_batch, budget)
        # with fewer classes than wanted, the sampler gives their places to the others
        each = self.samples_per_class
        if each is None:
            wanted = min(wanted, classes)
            each = budget // wanted
        data = strategy.adapted_dataset
        workers = int(loading.get("num_workers", 0))
        prototypes = None
        if classes > wanted:  # else every class is in every batch, and none has to be chosen
            prototypes = class_prototypes(
                data.eval(), labels, features, strategy.device,
                batch_size=strategy.eval_mb_size or strategy.train_mb_size,
                num_workers=workers, collate_fn=data.collate_fn,
            )  # fmt: skip
        number = strategy.clock.train_exp_counter
        seed = mixed_seed("experience", self.seed, number)
        self.sampler = HardClassBatchSampler(labels, prototypes, wanted, each, seed=seed)
        pin = loading.get("pin_memory")
        strategy.dataloader = self._loader = DataLoader(
            data, batch_sampler=self.sampler, collate_fn=data.collate_fn, num_workers=workers,
            pin_memory=strategy.device.type == "cuda" if pin is None else bool(pin),
            persistent_workers=workers > 0 and bool(loading.get("persistent_workers", False)),
            generator=generator("workers", seed),  # else worker seeds come from torch's global one
        )  # fmt: skip

    def start_epoch(self, strategy: Any) -> None:
        """Choose the sampler's epoch; warn once if the loader was replaced meanwhile."""
        if self.sampler is None:
            return
        if strategy.dataloader is not self._loader:
            self._tell(strategy.dataloader)
            self.remove()
            return
        epoch = strategy.clock.train_exp_epochs
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
        """Go on inside the experience that ``state`` was taken in."""
        if self.sampler is not None:
            self.sampler.load_state_dict(state)
            self._epoch, self._trained = int(state["epoch"]), int(state["position"])

    def remove(self) -> None:
        """Let go of the loader and its sampler."""
        self.sampler = self._loader = None
        self._epoch = self._trained = 0

    def _tell(self, loader: object) -> None:
        if not self._told:
            self._told = True
            warnings.warn(
                f"hard_class_batches gives way to the {type(loader).__name__} of another plugin "
                "(Replay, for example): batches follow that loader. Pass "
                "hard_class_batches=False to say that this is meant",
                stacklevel=4,
            )
