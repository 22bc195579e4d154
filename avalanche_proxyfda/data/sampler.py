"""Draws class-balanced batches of classes that are hard to tell apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler
from tqdm import tqdm

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._labelled import label_tensor
from avalanche_proxyfda._random import generator as named_generator
from avalanche_proxyfda._random import mixed_seed
from avalanche_proxyfda.data.choices import ClassChoice


class HardClassBatchSampler(Sampler[list[int]]):
    """Draws batches of m classes with n samples each; a rule chooses classes that fit together.

    A batch starts with the next class of a shuffled queue, so each class starts a batch equally
    often, to within one. ``choice`` adds the other classes
    (:mod:`avalanche_proxyfda.data.choices`); without a choice they are drawn at random. A class
    gives n samples without replacement from a shuffled queue; a class with fewer than n samples
    repeats them.

    With fewer than m classes, every batch has all classes, and n grows as far as a batch still
    has at most m x n samples. An epoch has ceil(N / batch_size) batches. It depends on the
    labels, the choice, the seed and the number of the epoch. The sampler does not draw from
    torch's global generator, and the number of worker processes does not change the batches.
    A choice that looks at samples is asked for all batches of an epoch when the epoch begins.

    Args:
        labels: class of each sample, [N] integers of any values.
        choice: chooses the classes after the first one; None draws them at random.
        classes_per_batch: m; clamped to the number of classes.
        samples_per_class: n.
        length: batches of an epoch; None takes ceil(N / batch_size).
        trains: (m, n) of the batches that train, if this sampler draws candidates for them.
        seed: seed of the random streams; None draws it from ``generator``, or takes 0 without
            a generator.
        generator: gives the seed if ``seed`` is None.

    Attributes:
        classes: the C labels, in ascending order.
        trains: (m, n) of the batches that train.
        left_out: number of samples that the last finished epoch did not draw; None before.
        most_drawn: how often the last finished epoch drew one sample at most; None before.
        plan: the batches of the epoch, [T, B] int64, if the choice looks at samples; else None.

    Raises:
        TypeError: for a size that is no int.
        ValueError: for empty or non-integer labels, a choice that does not fit the labels,
            sizes below 1, or both ``seed`` and ``generator``.

    Example:
        >>> from avalanche_proxyfda import HardClassBatchSampler
        >>> sampler = HardClassBatchSampler([7, 7, 3, 3, 5, 5], None, 2, 1)
        >>> len(sampler), sampler.batch_size, sampler.classes
        (3, 2, [3, 5, 7])
    """

    def __init__(
        self,
        labels: Sequence[int] | Tensor,
        choice: ClassChoice | None = None,
        classes_per_batch: int = 16,
        samples_per_class: int = 4,
        *,
        length: int | None = None,
        trains: tuple[int, int] | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        target = label_tensor(labels)
        check_count("classes_per_batch", classes_per_batch, 1)
        check_count("samples_per_class", samples_per_class, 1)
        if seed is not None and generator is not None:
            raise ValueError(
                f"seed={seed} and a generator are both given; pass seed or generator, not both"
            )
        if seed is None and generator is not None:
            seed = int(torch.randint(2**62, (), generator=generator))
        self.seed = seed or 0
        classes, class_of = torch.unique(target, return_inverse=True)
        self.classes: list[int] = classes.tolist()
        self._members = [
            torch.nonzero(class_of == c).flatten().numpy() for c in range(len(classes))
        ]
        self.classes_per_batch = min(classes_per_batch, len(classes))
        self.samples_per_class = classes_per_batch * samples_per_class // self.classes_per_batch
        if choice is not None:
            choice.check(len(classes), len(target))
        self._choice = choice
        self._length = math.ceil(len(target) / self.batch_size)
        if length is not None:
            self._length = check_count("length", length, 1)
        self.trains = trains or (self.classes_per_batch, self.samples_per_class)
        self.left_out: int | None = None
        self.most_drawn: int | None = None
        self.plan: Tensor | None = None
        self._planned = -1  # the epoch of the plan
        self._epoch = 0
        self._position = 0
        self._resume = 0

    @property
    def batch_size(self) -> int:
        """Samples in every batch."""
        return self.classes_per_batch * self.samples_per_class

    @property
    def epoch(self) -> int:
        """Number of the epoch of the next iteration."""
        return self._epoch

    def __len__(self) -> int:
        return self._length

    @property
    def leaves_out(self) -> int | None:
        """Number of samples that every epoch leaves out; None if the choice of classes decides.

        A class with more samples than its places in an epoch cannot come whole. Every batch
        must hold every class for an exact number.
        """
        if self.classes_per_batch < len(self.classes):
            return None
        places = len(self) * self.samples_per_class
        return sum(max(0, len(members) - places) for members in self._members)

    @property
    def repeats(self) -> int:
        """Largest number of times that an epoch draws a sample, if every batch has every class."""
        return math.ceil(len(self) * self.samples_per_class / self.class_sizes[0])

    @property
    def class_sizes(self) -> tuple[int, int]:
        """Numbers of samples of the smallest and of the largest class."""
        sizes = [len(members) for members in self._members]
        return min(sizes), max(sizes)

    @property
    def looks_at_samples(self) -> bool:
        """True if an epoch's batches depend on features that training changes."""
        return self._choice is not None and self._choice.looks_at_samples

    @property
    def begins_at(self) -> int:
        """Number of batches that the next iteration leaves out."""
        return self._resume

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration.

        The call drops a loaded position in another epoch. Without calls, each finished
        iteration increments the epoch.
        """
        check_count("epoch", epoch, 0)
        if epoch != self._epoch:
            self._resume = self._position = 0
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        epoch, start, self._resume = self._epoch, self._resume, 0
        drawn = np.zeros(sum(map(len, self._members)), dtype=np.int64)
        self.left_out = self.most_drawn = None
        for number, batch in enumerate(self._batches_of(epoch)):
            np.add.at(drawn, batch, 1)
            if number >= start:
                self._position = number + 1
                yield batch
        self._epoch, self._position = epoch + 1, 0
        self.left_out, self.most_drawn = int(np.count_nonzero(drawn == 0)), int(drawn.max())

    def _batches_of(self, epoch: int) -> Iterable[list[int]]:
        """Return the batches of an epoch; plan them first if the choice looks at samples."""
        if not self.looks_at_samples:
            return self._draw_batches(epoch)
        if self.plan is None or self._planned != epoch:
            batches = tqdm(
                self._draw_batches(epoch),
                desc="hard class mining",
                total=len(self),
                delay=5,
                leave=False,
            )
            self.plan, self._planned = torch.tensor(list(batches)), epoch
        planned: list[list[int]] = self.plan.tolist()
        return planned

    def _draw_batches(self, epoch: int) -> Iterator[list[int]]:
        random = np.random.default_rng(mixed_seed("batches", self.seed, epoch))
        queues: list[list[int]] = [[] for _ in self.classes]
        for number in range(len(self)):
            first = self._seed_class(epoch * len(self) + number)
            if self._choice is not None and self._choice.looks_at_samples:
                yield self._draw_by_samples(first, queues, random)
                continue
            batch: list[int] = []
            for c in self._choose(first, random):
                batch += self._draw(queues, c, random)
            yield batch

    def _draw_by_samples(
        self, first: int, queues: list[list[int]], random: np.random.Generator
    ) -> list[int]:
        """Return a batch whose classes depend on the next samples of every class."""
        assert self._choice is not None
        offers = [self._draw(queues, c, random) for c in range(len(self.classes))]
        chosen = self._choice.choose(first, self.classes_per_batch, np.array(offers))
        for c in set(range(len(self.classes))) - set(chosen):
            queues[c] = offers[c] + queues[c]  # the class offers the same samples again
        return [sample for c in chosen for sample in offers[c]]

    def _seed_class(self, turn: int) -> int:
        """Return the class that starts batch number ``turn``, counted over all epochs."""
        cycle, place = divmod(turn, len(self.classes))
        order = torch.randperm(
            len(self.classes), generator=named_generator("classes", self.seed, cycle)
        )
        return int(order[place])

    def _choose(self, first: int, random: np.random.Generator) -> list[int]:
        """Return the classes of a batch that starts with ``first``."""
        if self._choice is None:
            others = random.permutation(np.delete(np.arange(len(self.classes)), first))
            return [first, *map(int, others[: self.classes_per_batch - 1])]
        nothing = np.zeros((len(self.classes), 0), dtype=np.int64)
        return self._choice.choose(first, self.classes_per_batch, nothing)

    def _draw(self, queues: list[list[int]], c: int, random: np.random.Generator) -> list[int]:
        """Return the next n samples of class ``c``; repeats only fill up a small class."""
        samples: list[int] = []
        while len(samples) < self.samples_per_class:
            if not queues[c]:
                fresh = random.permutation(self._members[c]).tolist()
                drawn = set(samples)  # samples that the batch already has come last
                queues[c] = sorted(fresh, key=drawn.__contains__)
            need = self.samples_per_class - len(samples)
            samples, queues[c] = samples + queues[c][:need], queues[c][need:]
        return samples

    def begin_at(self, batch: int) -> None:
        """Skip the epoch's first ``batch`` batches, in the next iteration only."""
        self._position = self._resume = check_count("batch", batch, 0)

    def plan_of(self, epoch: int) -> Tensor | None:
        """Return the samples of each batch of ``epoch``; None unless they are planned."""
        return self.plan if self._planned == epoch else None

    def state_dict(self) -> dict[str, Any]:
        """Return the seed, the epoch, the position and the plan of the epoch.

        The position is the number of batches yielded in the epoch. Worker processes fetch
        batches ahead of training. The plugins of this package therefore save the number of
        training steps as the position instead.
        """
        plan = self.plan_of(self._epoch)
        return {"seed": self.seed, "epoch": self._epoch, "position": self._position, "plan": plan}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``; the next iteration yields the rest of its epoch."""
        self.seed, self._epoch = int(state["seed"]), int(state["epoch"])
        self._position = self._resume = int(state["position"])
        self.plan = state.get("plan")
        self._planned = self._epoch if self.plan is not None else -1
