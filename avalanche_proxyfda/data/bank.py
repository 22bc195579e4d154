"""The feature bank: the features of two models for every sample of an experience."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from avalanche_proxyfda._tensors import full_precision, unit_rows


class FeatureBank:
    """Features of the teacher, computed once, and of the student, as they pass in training.

    The student's features begin as the teacher's own. Each bank holds unit rows in half
    precision: 23 MiB for 24 000 samples of width 512.

    Args:
        teacher: [N, D], finite features of the samples in the data set's order.

    Raises:
        ValueError: if a feature is NaN or infinite, or there are no samples.
    """

    def __init__(self, teacher: Tensor) -> None:
        if len(teacher) == 0:
            raise ValueError("the data set is empty; a feature bank needs at least one sample")
        if not bool(teacher.isfinite().all()):
            raise ValueError(
                "the teacher's features of the training data hold NaN or Inf; check the model's "
                "weights and the images"
            )
        self.teacher = unit_rows(full_precision(teacher.detach())).half()
        self.student = self.teacher.clone()

    @staticmethod
    def of(batches: Iterable[Tensor]) -> FeatureBank:
        """Return the bank of the teacher's features that ``batches`` [B, D] give in order.

        :func:`~avalanche_proxyfda.features.passes.feature_batches` gives such batches. Each of
        them is halved at once, so the pass needs no more memory than the bank.
        """
        return FeatureBank(halved_rows(batches))

    def check(self, samples: int) -> None:
        """Raise ValueError unless the bank belongs to data of ``samples`` samples."""
        if len(self.teacher) != samples:
            raise ValueError(
                f"the feature bank has {len(self.teacher)} samples, and the training data has "
                f"{samples}: the data set changed within the experience; begin the experience "
                "anew, or pass mining='random'"
            )

    @torch.no_grad()
    def keep(self, samples: Tensor, rows: Tensor) -> None:
        """Store the student's features of some samples.

        Args:
            samples: [B] int64, numbers of the samples, on the bank's device. If a sample comes
                twice, either row is stored.
            rows: [B, D], features of the student.
        """
        units = unit_rows(full_precision(rows.detach())).half()
        self.student.index_copy_(0, samples, units.to(self.student.device))

    def state_dict(self) -> dict[str, Any]:
        """Return the student's features; the teacher's are computed again."""
        return {"student": self.student.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the student's features.

        Raises:
            ValueError: if the state belongs to another data set.
        """
        self.check(len(state["student"]))
        self.student.copy_(state["student"])


def halved_rows(batches: Iterable[Tensor]) -> Tensor:
    """Return the unit rows of ``batches`` [B, D] in half precision, [N, D]."""
    return torch.cat([unit_rows(full_precision(batch)).half() for batch in batches])
