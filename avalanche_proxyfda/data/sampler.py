"""Draws class-balanced batches of classes that are hard to tell apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._random import generator as named_generator
from avalanche_proxyfda._random import mixed_seed
from avalanche_proxyfda._tensors import full_precision, unit_rows


class HardClassBatchSampler(Sampler[list[int]]):
    """Draws batches of m classes with n samples each; the classes of a batch are similar.

    The sampler implements the greedy hard class mining of Proxy-FDA (appendix A); the paper
    leaves details of the greedy rule open. A batch starts with the next class of a shuffled
    queue. The sampler then adds the unused class with the largest mean similarity to the
    batch's classes, until the batch has m classes. Without prototypes, the sampler draws the
    other classes at random. Each class starts a batch equally often, to within one. A class
    gives n samples without replacement from a shuffled queue; a class with fewer than n samples
    repeats them.

    With fewer than m classes, every batch has all classes, and n grows as far as a batch still
    has at most m x n samples. An epoch has ceil(N / batch_size) batches. It depends on the
    labels, the prototypes, the seed and the number of the epoch. The sampler does not draw from
    torch's global generator, and the number of worker processes does not change the batches.

    Args:
        labels: class of each sample, [N] integers of any values.
        prototypes: [C, D], one row a class in ascending order of label; None draws the classes
            at random.
        classes_per_batch: m; clamped to the number of classes.
        samples_per_class: n.
        seed: seed of the random streams; None draws it from ``generator``, or takes 0 without
            a generator.
        generator: gives the seed if ``seed`` is None.

    Attributes:
        classes: the C labels, in ascending order.

    Raises:
        TypeError: for a size that is no int.
        ValueError: for empty or non-integer labels, prototypes that do not fit the labels or
            are not finite, sizes below 1, or both ``seed`` and ``generator``.

    Example:
        >>> sampler = HardClassBatchSampler([7, 7, 3, 3, 5, 5], None, 2, 1)
        >>> len(sampler), sampler.batch_size, sampler.classes
        (3, 2, [3, 5, 7])
    """

    def __init__(
        self,
        labels: Sequence[int] | Tensor,
        prototypes: Tensor | None = None,
        classes_per_batch: int = 16,
        samples_per_class: int = 4,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        target = torch.as_tensor(labels)
        if target.ndim != 1 or target.numel() == 0 or target.is_floating_point():
            raise ValueError(
                f"labels must be a non-empty list of integers, got shape {tuple(target.shape)} "
                f"of {target.dtype}"
            )
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
        self._size = len(target)
        self.classes_per_batch = min(classes_per_batch, len(classes))
        self.samples_per_class = classes_per_batch * samples_per_class // self.classes_per_batch
        self._similarity = None if prototypes is None else self._compare(prototypes)
        self._epoch = 0
        self._position = 0
        self._resume = 0

    def _compare(self, prototypes: Tensor) -> NDArray[np.float32]:
        """Return the cosines [C, C] of the prototypes, after checking them."""
        if prototypes.ndim != 2 or len(prototypes) != len(self.classes):
            raise ValueError(
                f"prototypes has shape {tuple(prototypes.shape)}; expected one row for each of "
                f"the {len(self.classes)} classes in labels"
            )
        if not bool(prototypes.isfinite().all()):
            raise ValueError("prototypes hold NaN or Inf; check the teacher's features")
        rows = unit_rows(full_precision(prototypes.detach().cpu()))
        similarity: NDArray[np.float32] = (rows @ rows.T).float().numpy()
        return similarity

    @property
    def batch_size(self) -> int:
        """Samples in every batch."""
        return self.classes_per_batch * self.samples_per_class

    @property
    def epoch(self) -> int:
        """Number of the epoch of the next iteration."""
        return self._epoch

    def __len__(self) -> int:
        return math.ceil(self._size / self.batch_size)

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
        for number, batch in enumerate(self._batches(epoch)):
            if number >= start:
                self._position = number + 1
                yield batch
        self._epoch, self._position = epoch + 1, 0

    def _batches(self, epoch: int) -> Iterator[list[int]]:
        random = np.random.default_rng(mixed_seed("batches", self.seed, epoch))
        queues: list[list[int]] = [[] for _ in self.classes]
        for number in range(len(self)):
            batch: list[int] = []
            for c in self._choose(self._seed_class(epoch * len(self) + number), random):
                batch += self._draw(queues, c, random)
            yield batch

    def _seed_class(self, turn: int) -> int:
        """Return the class that starts batch number ``turn``, counted over all epochs."""
        cycle, place = divmod(turn, len(self.classes))
        order = torch.randperm(
            len(self.classes), generator=named_generator("classes", self.seed, cycle)
        )
        return int(order[place])

    def _choose(self, first: int, random: np.random.Generator) -> list[int]:
        """Return the classes of a batch that starts with ``first``."""
        chosen = [first]
        free = np.ones(len(self.classes), dtype=bool)
        free[first] = False
        if self._similarity is None:
            others = random.permutation(np.flatnonzero(free))[: self.classes_per_batch - 1]
            return chosen + [int(c) for c in others]
        total = self._similarity[first].copy()
        while len(chosen) < self.classes_per_batch:
            best = int(np.where(free, total, -np.inf).argmax())
            chosen.append(best)
            free[best] = False
            total += self._similarity[best]
        return chosen

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

    def state_dict(self) -> dict[str, Any]:
        """Return the seed, the epoch and the position: the number of batches yielded in it.

        Worker processes fetch batches ahead of training. The plugins of this package therefore
        save the number of training steps as the position instead.
        """
        return {"seed": self.seed, "epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``; the next iteration yields the rest of its epoch."""
        self.seed, self._epoch = int(state["seed"]), int(state["epoch"])
        self._position = self._resume = int(state["position"])
