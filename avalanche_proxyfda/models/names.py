"""Errors for unknown names of models."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(kind: str, value: str, known: Iterable[str]) -> ValueError:
    """Return the error that ``value`` is unknown, with the most similar names.

    Example:
        >>> from avalanche_proxyfda.models.names import near
        >>> print(near("the model", "resnet5", ["resnet50", "vit"]))
        the model 'resnet5' is unknown; near ones: resnet50
    """
    names = list(known)
    found = difflib.get_close_matches(value, names, n=3, cutoff=0.5) or names[:3]
    return ValueError(f"{kind} {value!r} is unknown; near ones: {', '.join(found)}")
