"""Class-balanced batches in which related classes meet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from avalanche_proxyfda.losses.base import check_count
from avalanche_proxyfda.losses.neighbors import full_precision, unit_rows
from avalanche_proxyfda.rng import generator as own_generator
from avalanche_proxyfda.rng import mixed_seed


class HardClassBatchSampler(Sampler[list[int]]):
    """Batches of m classes x n samples, the classes chosen to be hard to tell apart.

    Each batch starts from the next class of a shuffled queue, then takes, again and again,
    the unused class with the largest mean similarity to those chosen (greedy hard class
    mining, Proxy-FDA appendix A; the greedy rule's details are our reading). Every class
    starts a batch equally often, to within one. Without prototypes the other classes are
    drawn at random. A class gives n samples without replacement from its own shuffled
    queue; a class with fewer than n samples repeats them.

    Labels alone decide: with fewer than m classes all of them are in every batch, and n
    grows so that a batch keeps at most m x n samples. An epoch is ceil(N / batch_size)
    batches and a function of the seed and the epoch number alone: nothing is drawn from
    torch's global generator, and worker processes change nothing.

    Args:
        labels: class of each sample, [N] integers of any values.
        prototypes: [C, D], one row a class in ascending order of label; None to draw
            classes at random.
        classes_per_batch: m.
        samples_per_class: n.
        seed: names the random stream; drawn from ``generator`` when None (0 without one).
        generator: only read when ``seed`` is None.

    Raises:
        TypeError, ValueError: for empty labels, prototypes that do not fit or are not
            finite, sizes below 1, or both ``seed`` and ``generator``.
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
            raise ValueError("give seed or generator, not both")
        if seed is None and generator is not None:
            seed = int(torch.randint(2**62, (), generator=generator))
        self.seed = seed or 0
        classes, which = torch.unique(target, return_inverse=True)
        self.classes: list[int] = classes.tolist()
        self._members = [torch.nonzero(which == c).flatten().numpy() for c in range(len(classes))]
        self._size = len(target)
        self.classes_per_batch = min(classes_per_batch, len(classes))
        self.samples_per_class = classes_per_batch * samples_per_class // self.classes_per_batch
        self._similarity = None if prototypes is None else self._compare(prototypes)
        self._epoch = 0
        self._position = 0
        self._resume = 0

    def _compare(self, prototypes: Tensor) -> NDArray[np.float32]:
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
        """Number of the epoch that the next iteration yields."""
        return self._epoch

    def __len__(self) -> int:
        return math.ceil(self._size / self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields; a position loaded for another
        epoch is dropped. Without this call, each finished iteration moves on by one.
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
        """The class that starts the batch ``turn`` of the whole training."""
        cycle, place = divmod(turn, len(self.classes))
        order = torch.randperm(
            len(self.classes), generator=own_generator("classes", self.seed, cycle)
        )
        return int(order[place])

    def _choose(self, first: int, random: np.random.Generator) -> list[int]:
        """The classes of a batch that starts with ``first``."""
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
        """The next n samples of class ``c``, none twice while the class has others."""
        taken: list[int] = []
        while len(taken) < self.samples_per_class:
            if not queues[c]:
                fresh = random.permutation(self._members[c]).tolist()
                held = set(taken)
                # what this batch holds already comes last
                queues[c] = [i for i in fresh if i not in held] + [i for i in fresh if i in held]
            need = self.samples_per_class - len(taken)
            taken, queues[c] = taken + queues[c][:need], queues[c][need:]
        return taken

    def begin_at(self, batch: int) -> None:
        """Leave out the epoch's first batches, ``batch`` of them, in the next iteration alone."""
        self._position = self._resume = check_count("batch", batch, 0)

    def state_dict(self) -> dict[str, Any]:
        """Seed, epoch, and how many batches of it were handed out.

        A loader with worker processes takes batches ahead of training; the plugins of this
        package count the steps that were made and put that number in its place.
        """
        return {"seed": self.seed, "epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``: the next iteration yields the rest of that epoch."""
        self.seed, self._epoch = int(state["seed"]), int(state["epoch"])
        self._position = self._resume = int(state["position"])
