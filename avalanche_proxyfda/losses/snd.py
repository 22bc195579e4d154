"""SND: keeps the features of reference images near one of two teachers."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from avalanche_proxyfda._checks import check_amount, check_choice
from avalanche_proxyfda._tensors import check_matrices, full_precision, unit_rows, without_autocast

Distance = Literal["squared", "norm"]
Selection = Literal["image", "batch"]


class SNDLoss(nn.Module):
    """Selective distillation from two teachers (Yu et al., ECCV 2024).

    Features are normalised. f is the student's, f_prev the previous model's, and f_0 the
    initial model's. An image whose features the earlier experiences have moved belongs to the
    previous model, and the others belong to the initial one::

        s = sigmoid(sharpness (|f_0 - f_prev| - threshold))
        L = previous_weight mean(s d(f, f_prev)) + initial_weight mean((1 - s) d(f, f_0))

    Where all three agree, loss and gradient are exactly zero. Where the previous model has
    left the initial one, the second mean is not zero at f = f_prev.

    Args:
        previous_weight: weight of the previous model.
        initial_weight: weight of the initial model.
        threshold: distance of the two teachers at which both have a share of a half.
        sharpness: factor in the sigmoid.
        distance: ``"squared"`` takes d = |a - b|^2, as the authors' code does (chu0802/SnD,
            commit aca239a). ``"norm"`` takes d = |a - b|, whose gradient at 0 is 0 here.
        selection: ``"image"`` weighs each image by its own s. ``"batch"`` weighs all images
            by the mean of s, as the authors' code does: it multiplies a column [B, 1] by a row
            [B], and averages over [B, B].

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda import SNDLoss
        >>> first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> loss = SNDLoss(threshold=2**0.5)
        >>> loss(first, first, first), loss(first, second, first)
        (tensor(0.), tensor(9.))
    """

    def __init__(
        self,
        previous_weight: float = 9.0,
        initial_weight: float = 0.5,
        threshold: float = 0.2,
        sharpness: float = 6.0,
        distance: Distance = "squared",
        selection: Selection = "image",
    ) -> None:
        super().__init__()
        self.previous_weight = check_amount("previous_weight", previous_weight)
        self.initial_weight = check_amount("initial_weight", initial_weight)
        self.threshold = check_amount("threshold", threshold)
        self.sharpness = check_amount("sharpness", sharpness)
        check_choice("distance", distance, get_args(Distance))
        check_choice("selection", selection, get_args(Selection))
        self.distance: Distance = distance
        self.selection: Selection = selection

    def forward(self, student: Tensor, previous: Tensor, initial: Tensor) -> Tensor:
        """Return the loss of one batch of reference images.

        Args:
            student: [B, D], receives the gradient.
            previous: features of the same images, [B, D], of the model before the experience;
                receive none.
            initial: the same of the model before all experiences; receive none.

        Returns:
            A scalar, float32 (float64 for a float64 student).

        Raises:
            TypeError, ValueError: for inputs that are not three float matrices of one shape.
        """
        check_matrices(student, previous, same_width=True)
        check_matrices(student, initial, same_width=True)
        with without_autocast(student):
            rows = unit_rows(full_precision(student))
            if len(rows) == 0:
                return torch.sum(rows)
            before, first = (unit_rows(t.detach().to(rows.dtype)) for t in (previous, initial))
            apart = torch.linalg.vector_norm(first - before, dim=1)
            share = torch.sigmoid(self.sharpness * (apart - self.threshold))
            if self.selection == "batch":
                share = share.mean()
            to_previous = (share * self._distances(rows, before)).mean()
            to_initial = ((1 - share) * self._distances(rows, first)).mean()
            return self.previous_weight * to_previous + self.initial_weight * to_initial

    def _distances(self, rows: Tensor, others: Tensor) -> Tensor:
        """Return the distance of each row to its teacher, [B]."""
        change = rows - others
        if self.distance == "squared":
            return change.square().sum(dim=1)
        norm: Tensor = torch.linalg.vector_norm(change, dim=1)  # torch's subgradient at 0 is 0
        return norm
