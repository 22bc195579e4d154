"""Replaces a strategy's training loader by one of hard-class batches."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from avalanche_proxyfda._accelerator import pins_memory
from avalanche_proxyfda._checks import check_choice, check_count
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda._random import generator, mixed_seed
from avalanche_proxyfda.data.bank import FeatureBank, halved_rows
from avalanche_proxyfda.data.choices import ClassChoice, HardestClasses, SimilarClasses
from avalanche_proxyfda.data.keyed import ShuffledBatches
from avalanche_proxyfda.data.labels import class_keys
from avalanche_proxyfda.data.mining import Sigmoid, SigmoidValues
from avalanche_proxyfda.data.sampler import HardClassBatchSampler
from avalanche_proxyfda.data.steady import SteadyLoader
from avalanche_proxyfda.distributed.loaders import rebuilt, sliced, whole_batches
from avalanche_proxyfda.distributed.ranks import active, computed_by_main
from avalanche_proxyfda.features.passes import feature_batches
from avalanche_proxyfda.features.prototypes import class_prototypes

SAMPLES_PER_CLASS = 4
"""Samples of a class in a batch, if ``samples_per_class`` is None: the paper's n."""
Mining = Literal["bank", "online", "prototypes", "random"]


def _is_default(loader: Any, strategy: Strategy) -> bool:
    """Return True if Avalanche made ``loader``, False if another plugin did."""
    if type(loader).__name__ in ("TaskBalancedDataLoader", "SingleDatasetDataLoader"):
        return True
    if isinstance(loader, SteadyLoader):
        return isinstance(loader.batch_sampler, ShuffledBatches)
    same_data = getattr(loader, "dataset", None) is strategy.adapted_dataset
    return type(loader) is DataLoader and same_data and loader.batch_size == strategy.train_mb_size


def fingerprint(keys: Tensor) -> str:
    """Return the SHA-256 of the class of each sample, [N] int64."""
    return hashlib.sha256(keys.numpy().tobytes()).hexdigest()


class HardClassBatches:
    """The loader of one experience, and its sampler.

    Args:
        classes_per_batch: m, classes in a batch; fewer if the experience has fewer classes, or
            if the batch has no room.
        samples_per_class: n; None fills the strategy's ``train_mb_size``, with at least four
            samples of each class if there is room.
        seed: seed of the sampler's random stream.
        mining: the rule that chooses the classes of a batch, see
            :class:`~avalanche_proxyfda.plugins.base.graph.GraphPlugin`. Experiences with at
            most m classes need no rule.
        candidates: C, classes of which ``"online"`` chooses m; None takes 3 m. Other rules
            refuse it.
        sigmoid: returns the loss's scale, bias and weights, for ``"bank"``.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range.
    """

    def __init__(
        self,
        classes_per_batch: int,
        samples_per_class: int | None,
        seed: int,
        mining: Mining = "prototypes",
        candidates: int | None = None,
        sigmoid: Sigmoid = SigmoidValues,
    ) -> None:
        self.classes_per_batch = check_count("classes_per_batch", classes_per_batch, 2)
        if samples_per_class is not None:
            check_count("samples_per_class", samples_per_class, 1)
        self.samples_per_class = samples_per_class
        self.seed = seed
        check_choice("mining", mining, get_args(Mining))
        self.mining: Mining = mining
        if candidates is not None and check_count("candidates", candidates, 1) < classes_per_batch:
            raise ValueError(
                f"candidates={candidates} is below classes_per_batch={classes_per_batch}: a batch "
                "is chosen among the candidates, so give more candidates, or None for 3 x classes"
            )
        if candidates is not None and mining != "online":
            raise ValueError(
                f"candidates={candidates} has no effect with mining={mining!r}: leave candidates "
                "out, or give mining='online'"
            )
        self.candidates = candidates
        self._sigmoid = sigmoid
        self.sampler: HardClassBatchSampler | None = None
        self.bank: FeatureBank | None = None
        """Features of the experience's samples, with ``mining="bank"`` and more than m classes."""
        self.chooses = False
        """True if each batch of the loader holds candidates, of which the plugin chooses."""
        self._data = ""
        self._placed: Tensor | None = None  # the sampler's plan, on the bank's device
        # workers prefetch, so the sampler's own position is ahead of training
        self._first_epoch, self._epoch, self._trained = 0, 0, 0
        self._resumed = False
        self._warned = self._warned_of_one_class = False
        self._warned_of_size = False

    @property
    def batch_size(self) -> int | None:
        """Samples of a training batch; None without a sampler."""
        return None if self.sampler is None else math.prod(self.sampler.trains)

    @property
    def samples_of_class(self) -> int | None:
        """Samples of each class in a training batch; None without a sampler."""
        return None if self.sampler is None else self.sampler.trains[1]

    def sizes(self, classes: int, budget: int) -> tuple[int, int]:
        """Return (m, n) for an experience of ``classes`` and batches of at most ``budget``.

        Raises:
            ValueError: if ``budget`` has no room for ``samples_per_class`` of two classes.
        """
        most = min(self.classes_per_batch, classes)
        if self.samples_per_class is not None:
            n = self.samples_per_class
            if budget < 2 * n:
                raise ValueError(
                    f"train_mb_size={budget} has no room for samples_per_class={n} of two "
                    f"classes: give train_mb_size={2 * n} at least, or fewer samples of a class"
                )
            return min(most, budget // n), n
        m = max(min(2, most), min(most, budget // SAMPLES_PER_CLASS))
        return m, max(1, budget // m)

    def install(
        self, strategy: Strategy, features: Callable[[Tensor], Tensor], loading: Mapping[str, Any]
    ) -> None:
        """Replace ``strategy.dataloader``, unless another plugin has replaced it.

        ``shuffle`` and ``drop_last`` do not apply: the sampler draws batches, and all are full.
        An experience with a single class keeps its loader, with a warning.

        Args:
            strategy: an Avalanche strategy in ``before_training_exp``.
            features: the teacher as a function of images, for bank and prototypes.
            loading: the keyword arguments of ``strategy.train``.

        Raises:
            ValueError: if ``train_mb_size`` has no room for two classes.
        """
        data, loader = strategy.adapted_dataset, strategy.dataloader
        keys = class_keys(data)
        classes = len(set(keys.tolist()))
        if classes < 2:
            self.sampler = None
            self._warn_of_one_class(strategy.experience.current_experience)
            return
        m, n = self.sizes(classes, strategy.train_mb_size)
        if m * n > strategy.train_mb_size and not self._warned_of_size:
            self._warned_of_size = True
            room = f"train_mb_size={strategy.train_mb_size} has no room for two classes"
            remedy = f"batches have {m * n} samples (this warning comes once): give 64"
            warnings.warn(f"{room}, so {remedy}", stacklevel=4)
        seed = mixed_seed("experience", self.seed, strategy.clock.train_exp_counter)
        sampler = whole_batches(loader)
        if isinstance(sampler, HardClassBatchSampler):  # of another plugin of this package
            self.sampler = sampler
            if (m, n, seed) != (*sampler.trains, sampler.seed):
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
        self.sampler = self._sampler(strategy, keys, (classes, m, n), features, workers, seed)
        if isinstance(loader, SteadyLoader):
            strategy.dataloader = sliced(rebuilt(loader, batch_sampler=self.sampler))
            return
        pin = loading.get("pin_memory")
        strategy.dataloader = sliced(
            DataLoader(
                data,
                batch_sampler=self.sampler,
                collate_fn=data.collate_fn,
                num_workers=workers,
                pin_memory=pins_memory(strategy.device) if pin is None else bool(pin),
                persistent_workers=workers > 0 and bool(loading.get("persistent_workers", False)),
                generator=generator("workers", seed),  # else torch's global one seeds workers
            )
        )

    def _sampler(
        self,
        strategy: Strategy,
        keys: Tensor,
        sizes: tuple[int, int, int],
        features: Callable[[Tensor], Tensor],
        workers: int,
        seed: int,
    ) -> HardClassBatchSampler:
        """Return the sampler of an experience with ``sizes`` (classes, m, n)."""
        classes, m, n = sizes
        data = strategy.adapted_dataset
        size = strategy.eval_mb_size or strategy.train_mb_size
        arguments = (data.eval(), features, strategy.device, size, workers, data.collate_fn)
        choice: ClassChoice | None = None
        if classes <= m:  # every class is in every batch, and there is no choice
            pass
        elif self.mining == "online":
            self.chooses = True
            most = min(self.candidates or 3 * m, classes)
            length = math.ceil(len(keys) / (m * n))
            return HardClassBatchSampler(
                keys, None, most, n, length=length, trains=(m, n), seed=seed
            )
        elif self.mining == "bank":
            self.bank = bank_by_main(
                lambda: feature_batches(*arguments, "feature bank"), strategy.device
            )
            self._data = fingerprint(keys)
            choice = HardestClasses(self.bank, self._sigmoid)
        elif self.mining == "prototypes":
            dataset, *rest = arguments
            choice = SimilarClasses(
                computed_by_main(lambda: class_prototypes(dataset, keys, *rest))
            )
        return HardClassBatchSampler(keys, choice, m, n, seed=seed)

    def keep(self, rows: Tensor) -> None:
        """Store the student's features of the present batch in the bank, if there is one.

        Args:
            rows: [B, D] of the whole batch, or of several batches from the present one on.
        """
        if self.bank is None or self.sampler is None or self.sampler.plan is None:
            return
        if self._placed is None:
            self._placed = self.sampler.plan.to(self.bank.student.device)
        size, at = self._placed.shape[1], self._trained
        for part in torch.split(rows.detach(), size):
            samples = self._placed[at, : len(part)]
            # a sample that comes twice has two views, of which the bank stores the first
            first = (samples.unsqueeze(1) == samples).to(torch.uint8).argmax(dim=1)
            self.bank.keep(samples, part[first])
            at += 1

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
        self._placed = None
        if self.bank is not None:
            keys = class_keys(strategy.adapted_dataset)
            self.bank.check(len(keys))
            self._check_data(fingerprint(keys))
        self.sampler.set_epoch(epoch)

    def left_out(self, strategy: Strategy, begins: bool) -> str | None:
        """Return a sentence about the samples that the first epoch leaves out, and repeats.

        The number is known before the epoch if every batch holds every class, and after the
        epoch if ``mining`` chooses classes.

        Args:
            strategy: before or after the epoch.
            begins: True before the epoch, False after it.

        Returns:
            The sentence without a full stop; None if no sample is left out, if the number is
            said at the other time, or in a later epoch.
        """
        if self.sampler is None or self._epoch > 0:
            return None
        planned = self.sampler.leaves_out
        count = planned if begins else self.sampler.left_out
        if not count or (planned is None) == begins:
            return None
        total = len(strategy.adapted_dataset)
        say = f"class-balanced batches: {count} of {total} images of experience "
        say += f"{strategy.experience.current_experience} "
        if begins:
            least, most = self.sampler.class_sizes
            repeats = self.sampler.repeats
            often = f", and images of the smallest class up to {repeats} times" * (repeats > 1)
            return (
                f"{say}are not drawn in an epoch{often}, since every batch takes equally many "
                f"images of each class, and classes have {least} to {most}"
            )
        drawn = "among the candidates" if self.chooses else "drawn"
        repeats = self.sampler.most_drawn or 0
        often = f", and others up to {repeats} times" * (repeats > 1)
        return (
            f"{say}were not {drawn} in the first epoch{often}, since mining={self.mining!r} "
            f"chooses {self.sampler.trains[0]} of {len(self.sampler.classes)} classes for each "
            "batch"
        )

    def count_step(self) -> None:
        """Count one more batch of the epoch as trained."""
        self._trained += 1

    def state_dict(self) -> dict[str, Any] | None:
        """Return the sampler's state at the batch of training; None without a sampler."""
        if self.sampler is None:
            return None
        return {
            "seed": self.sampler.seed,
            "epoch": self._epoch,
            "position": self._trained,
            "plan": self.sampler.plan_of(self._epoch),
            "bank": None if self.bank is None else self.bank.state_dict(),
            "data": self._data,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Resume within the experience of ``state``.

        Epochs continue from the state's epoch, even if Avalanche counts them from 0 again.

        Raises:
            ValueError: if the saved feature bank belongs to another data set.
        """
        if self.sampler is not None:
            self.sampler.load_state_dict(state)
            self._resumed = True
            self._first_epoch = self._epoch = int(state["epoch"])
            self._trained = int(state["position"])
            if self.bank is not None and state.get("bank") is not None:
                self.bank.load_state_dict(state["bank"])
                self._check_data(state["data"])

    def _check_data(self, data: str) -> None:
        """Raise ValueError unless ``data`` is the fingerprint of the bank's data."""
        if data != self._data:
            raise ValueError(
                "the training data has other labels than the data of the feature bank: the data "
                "set changed within the experience; begin the experience anew, or pass "
                "mining='random'"
            )

    def remove(self) -> None:
        """Release the sampler and the bank."""
        self.sampler = self.bank = self._placed = None
        self.chooses, self._data = False, ""
        self._first_epoch = self._epoch = self._trained = 0
        self._resumed = False

    def _warn_of_one_class(self, experience: int) -> None:
        if not self._warned_of_one_class:
            self._warned_of_one_class = True
            warnings.warn(
                f"experience {experience} has one class, so there are no classes to balance: it "
                "trains on the strategy's plain batches (this warning comes once)",
                stacklevel=5,
            )

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


def bank_by_main(batches: Callable[[], Iterable[Tensor]], device: torch.device) -> FeatureBank:
    """Return the bank of batches that rank 0 computes, on ``device`` of every rank.

    Args:
        batches: see :meth:`FeatureBank.of`; called on rank 0 alone.
        device: device of the bank.
    """
    if not active():
        return FeatureBank.of(batches())
    return FeatureBank(computed_by_main(lambda: halved_rows(batches()).cpu()).to(device))
