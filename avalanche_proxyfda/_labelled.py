"""Checks of features [N, D] and of their labels: each names the argument, the value and the remedy.

Checks of types and shapes never wait for a device. :func:`check_finite` and :func:`check_range` do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avalanche_proxyfda._checks import named_kind

_NUMBERS = "give the class number of each sample"


def label_tensor(labels: Sequence[int] | Tensor) -> Tensor:
    """Return ``labels`` as a tensor [N]; raise ValueError unless they are integers, N >= 1."""
    try:
        numbers = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"labels must be a list of integers: {error}; {_NUMBERS}") from error
    if numbers.ndim != 1 or len(numbers) == 0 or numbers.is_floating_point():
        raise ValueError(
            f"labels must be a non-empty list of integers, got shape {tuple(numbers.shape)} of "
            f"{numbers.dtype}; {_NUMBERS}"
        )
    return numbers


def check_features(name: str, rows: Tensor, least: int = 1) -> None:
    """Raise TypeError or ValueError unless ``rows`` is a tensor [N, D], N >= ``least``, D >= 1."""
    if not isinstance(rows, Tensor):
        raise TypeError(
            f"{name} is {named_kind(rows)}, and must be a tensor [N, D]: convert it with "
            "torch.as_tensor"
        )
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(
            f"{name} has shape {tuple(rows.shape)}; expected [N, D]: pool tokens or feature maps "
            "to one vector a sample first"
        )
    if len(rows) < least:
        raise ValueError(
            f"{name} has {len(rows)} rows; {least} are needed: give the features of more samples"
        )


def check_same_width(name: str, rows: Tensor, other_name: str, width: int) -> None:
    """Raise ValueError unless ``rows`` has ``width`` columns, those of ``other_name``."""
    if rows.shape[1] != width:
        raise ValueError(
            f"{name} has {rows.shape[1]} columns, and {other_name} {width}: give features of one "
            "place of one model"
        )


def check_finite(name: str, rows: Tensor) -> None:
    """Raise ValueError if an entry of ``rows`` is NaN or infinite."""
    if not bool(rows.isfinite().all()):
        raise ValueError(f"{name} holds NaN or Inf: check the model's weights and the images")


def check_labels(
    name: str, labels: Tensor, rows_name: str, count: int, integers: bool = True
) -> None:
    """Raise TypeError or ValueError unless ``labels`` is a tensor [N] for ``count`` rows.

    Args:
        name: name of the labels.
        labels: the value to check.
        rows_name: name of the features.
        count: number of their rows.
        integers: False allows any dtype.
    """
    if not isinstance(labels, Tensor):
        raise TypeError(
            f"{name} is {named_kind(labels)}, and must be a tensor [N]: convert it with "
            "torch.as_tensor"
        )
    if labels.ndim != 1:
        raise ValueError(f"{name} has shape {tuple(labels.shape)}; expected [N]: {_NUMBERS}")
    if len(labels) != count:
        raise ValueError(
            f"{name} has {len(labels)} entries, and {rows_name} {count} rows: give one label a row"
        )
    if integers and (labels.is_floating_point() or labels.is_complex()):
        raise ValueError(f"{name} has the dtype {labels.dtype}; expected integers: {_NUMBERS}")


def check_range(name: str, labels: Tensor, classes: int | None = None) -> None:
    """Raise ValueError unless the labels lie in [0, ``classes``); None sets no upper limit."""
    least, most = int(labels.min()), int(labels.max())
    if least < 0:
        raise ValueError(
            f"{name} holds {least}: number the classes from 0, and leave out samples without a "
            "class"
        )
    if classes is not None and most >= classes:
        raise ValueError(
            f"{name} holds {most}, and labels must lie in [0, classes={classes}): raise classes, "
            "or number the classes without gaps"
        )


def check_pair(name: str, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return features [N, D] and labels [N]; raise TypeError or ValueError for anything else."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(
            f"{name} is {named_kind(pair)}, and must be a pair: features [N, D] and labels [N]"
        )
    rows, labels = pair
    check_features(f"{name}[0]", rows)
    check_labels(f"{name}[1]", labels, f"{name}[0]", len(rows))
    return rows, labels
