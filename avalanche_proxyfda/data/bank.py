"""The feature bank: the features of two models for every sample of an experience."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from avalanche_proxyfda._tensors import full_precision, unit_rows
from avalanche_proxyfda.features.passes import feature_batches


class FeatureBank:
    """Features of the teacher, computed once, and of the student, as they pass in training.

    The student's features begin as the teacher's own. Each bank holds unit rows in half
    precision: 24 MiB for 24 000 samples of width 512.

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
    def of(
        dataset: Dataset[Any],
        features: Callable[[Tensor], Tensor],
        device: torch.device,
        batch_size: int = 128,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ) -> FeatureBank:
        """Compute the teacher's features in one pass over a data set.

        Args:
            dataset: items whose first entry is an image, with the evaluation transform.
            features: maps images on ``device`` to features [B, D]; called without gradient.
            device: device of the images and of the bank.
            batch_size: samples in a batch.
            num_workers: worker processes of the loader.
            collate_fn: joins samples to a batch; None takes torch's default.
        """
        batches = feature_batches(
            dataset, features, device, batch_size, num_workers, collate_fn, "feature bank"
        )
        return FeatureBank(torch.cat([rows.half() for rows in map(_units, batches)]))

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


def _units(rows: Tensor) -> Tensor:
    return unit_rows(full_precision(rows))
