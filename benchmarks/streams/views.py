"""Views: how an image becomes an input of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Transform = Callable[[Any], Tensor]
"""Maps an RGB image of PIL to a float tensor [C, H, W]."""


@dataclass(frozen=True)
class Views:
    """The views of a run.

    Attributes:
        train: view for training.
        evaluation: view for evaluation.
    """

    train: Transform
    evaluation: Transform
