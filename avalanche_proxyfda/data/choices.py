"""Rules that choose the classes of a batch."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avalanche_proxyfda._tensors import full_precision, unit_rows
from avalanche_proxyfda.data.bank import FeatureBank
from avalanche_proxyfda.data.mining import Sigmoid, hardest_classes


class ClassChoice(Protocol):
    """Chooses the classes of a batch after the first one.

    Attributes:
        looks_at_samples: True if the choice depends on the samples that the classes offer.
    """

    looks_at_samples: bool

    def check(self, classes: int, samples: int) -> None:
        """Raise ValueError unless the rule fits data with these numbers of classes and samples."""

    def choose(self, first: int, count: int, offers: NDArray[np.int64]) -> list[int]:
        """Return ``count`` different classes, which begin with ``first``.

        Args:
            first: position of the first class among the classes in ascending order.
            count: classes of a batch.
            offers: [C, n] numbers of the samples that each class would give; [C, 0] unless
                the rule looks at samples.
        """


class SimilarClasses:
    """Adds the class with the largest mean similarity to the chosen classes (ours).

    Args:
        prototypes: [C, D], one row a class, in ascending order of label.

    Raises:
        ValueError: for prototypes that are no matrix or not finite.
    """

    looks_at_samples = False

    def __init__(self, prototypes: Tensor) -> None:
        if prototypes.ndim != 2:
            raise ValueError(f"prototypes has shape {tuple(prototypes.shape)}; expected [C, D]")
        if not bool(prototypes.isfinite().all()):
            raise ValueError("prototypes hold NaN or Inf; check the teacher's features")
        rows = unit_rows(full_precision(prototypes.detach().cpu()))
        self._similarity: NDArray[np.float32] = (rows @ rows.T).float().numpy()

    def check(self, classes: int, samples: int) -> None:
        """Raise ValueError unless there is a prototype for each class."""
        if len(self._similarity) != classes:
            raise ValueError(
                f"prototypes has {len(self._similarity)} rows; expected one for each of "
                f"the {classes} classes in labels"
            )

    def choose(self, first: int, count: int, offers: NDArray[np.int64]) -> list[int]:
        """Return the classes, see :class:`ClassChoice`."""
        chosen = [first]
        free = np.ones(len(self._similarity), dtype=bool)
        free[first] = False
        total = self._similarity[first].copy()
        while len(chosen) < count:
            best = int(np.where(free, total, -np.inf).argmax())
            chosen.append(best)
            free[best] = False
            total += self._similarity[best]
        return chosen


class HardestClasses:
    """Adds the class with the largest FDA loss, on the features of a bank.

    The rule is :func:`~avalanche_proxyfda.data.mining.hardest_classes` with all classes of the
    data as candidates.

    Args:
        bank: features of both models for every sample.
        sigmoid: returns the loss's scale, bias and weights as they are at the call.
    """

    looks_at_samples = True

    def __init__(self, bank: FeatureBank, sigmoid: Sigmoid) -> None:
        self.bank, self._sigmoid = bank, sigmoid

    def check(self, classes: int, samples: int) -> None:
        """Raise ValueError unless the bank has a row for each sample."""
        self.bank.check(samples)

    def choose(self, first: int, count: int, offers: NDArray[np.int64]) -> list[int]:
        """Return the classes, see :class:`ClassChoice`."""
        rows = torch.from_numpy(offers).to(self.bank.student.device)
        student, teacher = self.bank.student[rows], self.bank.teacher[rows]
        return hardest_classes(student, teacher, first, count, self._sigmoid())
