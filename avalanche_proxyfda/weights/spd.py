"""Selective projection decay: shortens a step of Adam that leads away from the anchors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avalanche_proxyfda._checks import check_number_on_weights
from avalanche_proxyfda._tensors import dots, norms


class SelectiveDecay:
    """The decay of AdamSPD (Tian et al., NeurIPS 2024), on both sides of an optimizer's step.

    For each tensor, with the gradient g, the weights theta before the step, the weights theta~
    after it, and the anchor theta_0::

        if -g . (theta - theta_0) < 0:
            r = clip((|theta~ - theta_0| - |theta - theta_0|) / |theta~ - theta_0|, 0, 1)
            theta~ <- theta~ - weight r (theta~ - theta_0)

    With weight = 1, such a tensor comes no further from its anchor than it was. The ratio r is
    0 where the step comes nearer. A step calls a constant number of ``torch._foreach``
    operations for any number of tensors, and does not synchronise the device.

    Args:
        weight: w of the decay; with 0 the step stays as it is.

    Raises:
        TypeError, ValueError: for a ``weight`` that is no finite number >= 0.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.weights import SelectiveDecay
        >>> weight, anchor = torch.nn.Parameter(torch.tensor([3.0, 4.0])), torch.zeros(2)
        >>> weight.grad = torch.tensor([1.0, 0.0])
        >>> decay = SelectiveDecay(1.0)
        >>> decay.before_step([weight], [anchor])
        >>> _ = weight.data.mul_(2)  # a step that leads away
        >>> _ = decay.after_step()
        >>> weight.data
        tensor([3., 4.])
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = check_number_on_weights("weight", weight)
        self._pairs: tuple[list[Tensor], list[Tensor]] | None = None
        self._selected: Tensor | None = None
        self._distance: Tensor | None = None

    def forget(self) -> None:
        """Drop what :meth:`before_step` noted."""
        self._pairs = self._selected = self._distance = None

    @torch.no_grad()
    def before_step(self, weights: Sequence[Tensor], anchors: Sequence[Tensor]) -> None:
        """Note the distances, and which tensors are selected, before the optimizer's step.

        A tensor without gradient is left out, as the optimizer does.

        Args:
            weights: P parameters with their gradients.
            anchors: anchors of ``weights``, P tensors.
        """
        self.forget()
        live = [
            (w, a, g) for w, a in zip(weights, anchors, strict=True) if (g := w.grad) is not None
        ]
        if not live:
            return
        own, known, gradients = (list(part) for part in zip(*live, strict=True))
        differences = torch._foreach_sub(own, known)
        self._pairs = own, known
        self._selected = dots(gradients, differences) > 0
        self._distance = norms(differences)

    @torch.no_grad()
    def after_step(self) -> dict[str, Tensor]:
        """Shorten the step of the selected tensors, in place.

        Returns:
            Scalars for the log: ``ratio``, the mean over tensors of r, with 0 for a tensor that
            is not selected, and ``selected``, the fraction of tensors with a positive r. Empty
            if no tensor had a gradient.
        """
        if self._pairs is None or self._selected is None or self._distance is None:
            return {}
        weights, anchors = self._pairs
        differences = torch._foreach_sub(weights, anchors)
        distance = norms(differences)
        share = ((distance - self._distance) / distance).clamp(0, 1)
        ratio = torch.where(self._selected & (distance > 0), share, 0.0)
        if self.weight:
            torch._foreach_mul_(differences, (self.weight * ratio).unbind())
            torch._foreach_sub_(weights, differences)
        self.forget()
        return {"ratio": ratio.mean(), "selected": (ratio > 0).to(ratio.dtype).mean()}
