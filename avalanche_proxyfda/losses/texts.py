"""Checks of the text features that some losses take beside the features of images."""

from __future__ import annotations

from torch import Tensor


def check_texts(name: str, texts: Tensor, width: int) -> None:
    """Raise unless ``texts`` is a float matrix [M, D] with at least one row.

    Args:
        name: the argument's name, for messages.
        texts: text features.
        width: D, the width of the image features.

    Raises:
        TypeError: for a value that is no floating-point tensor.
        ValueError: for another shape.
    """
    if not isinstance(texts, Tensor) or not texts.is_floating_point():
        raise TypeError(
            f"{name} must be a floating-point tensor [M, D]: encode token ids with the text tower"
        )
    if texts.ndim != 2 or len(texts) == 0 or texts.shape[1] != width:
        raise ValueError(
            f"{name} has shape {tuple(texts.shape)}; expected [M, {width}], at least one text in "
            "the space of the image features"
        )
