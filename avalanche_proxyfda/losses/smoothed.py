"""Cross-entropy with smoothed labels in training, and plain cross-entropy in evaluation."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from avalanche_proxyfda._checks import check_amount
from avalanche_proxyfda._tensors import full_precision, without_autocast

ABSENT = -1000.0
"""Largest logit of an absent class: Avalanche's growing head gives it to classes that no
experience had. The heads of this package give -10 000 to classes that a sample's task lacks."""


class SmoothedCrossEntropy(nn.CrossEntropyLoss):
    """Cross-entropy with the target (1 - s) onehot + s / K, for the K classes of a sample.

    Szegedy et al. (CVPR 2016, Section 7) spread the share s over all classes. This loss spreads s
    over the classes that are present for the sample, and equals torch's ``label_smoothing`` if
    all are. A logit of :data:`ABSENT` or less marks an absent class; torch's loss would add
    s / K of its size for each of them. Where all logits of a sample are so low, all its classes
    are present.

    In evaluation mode (``loss.eval()``), the loss is torch's cross-entropy without smoothing.

    Args:
        smoothing: s, from 0 to below 1.

    Raises:
        TypeError, ValueError: for a smoothing that is no number in [0, 1).

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.losses.smoothed import SmoothedCrossEntropy
        >>> logits, labels = torch.tensor([[2.0, 0.0, -1e4]]), torch.tensor([0])
        >>> loss = SmoothedCrossEntropy(0.5)
        >>> round(loss(logits, labels).item(), 3), round(loss.eval()(logits, labels).item(), 3)
        (0.627, 0.127)
    """

    def __init__(self, smoothing: float) -> None:
        super().__init__()
        self.smoothing = check_amount("smoothing", smoothing)
        if self.smoothing >= 1:
            raise ValueError(
                f"smoothing={smoothing} must be below 1: the rest is the weight of the label"
            )

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar.

        Args:
            input: logits, [B, C].
            target: labels, [B] integers.
        """
        if not self.training or self.smoothing == 0:
            return super().forward(input, target)
        with without_autocast(input):
            logits = full_precision(input)
            present = logits > ABSENT
            present = present | ~present.any(dim=1, keepdim=True)  # low logits, of no absent class
            logs = F.log_softmax(logits, dim=1)
            own = -logs.gather(1, target.unsqueeze(1)).squeeze(1)
            spread = -logs.masked_fill(~present, 0).sum(dim=1) / present.sum(dim=1)
            return ((1 - self.smoothing) * own + self.smoothing * spread).mean()
