"""The look of each method: classes and colours on the page, colours and markers in figures.

All of it comes from ``benchmarks/methods/registry.py``, read anew at each call. A method of
somebody else's records that the registry does not have is muted.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from markupsafe import Markup

from benchmarks.methods import registry


class Look(NamedTuple):
    """A method in the figures.

    Attributes:
        colour: ``"#rrggbb"``.
        marker: matplotlib's.
    """

    colour: str
    marker: str


UNKNOWN = Look("#57606a", "o")
"""The look of methods that the registry does not have; the page's ``--muted``."""


def look_of(method: str) -> Look:
    """Colour and marker of a method in the figures."""
    if method not in registry.METHODS:
        return UNKNOWN
    known = registry.METHODS[method]
    return Look(known.colour, known.marker)


def class_of(method: str) -> str:
    """Classes that give a method its colour on the page.

    Every element has ``own``; a method of the registry has a class of its own beside it, in
    which all characters but ``a-z``, ``0-9`` and ``-`` are written as ``_`` and their code.
    """
    return f"own {_class(method)}" if method in registry.METHODS else "own"


def _class(method: str) -> str:
    return "m-" + re.sub(r"[^a-z0-9-]", lambda found: f"_{ord(found[0]):x}_", method)


def style() -> Markup:
    """A rule of CSS for each method of the registry: its light and its dark colour."""
    return Markup("\n").join(
        Markup(".{}{{--light:{};--dark:{}}}").format(
            _class(name), method.colour, method.dark_colour
        )
        for name, method in registry.METHODS.items()
    )
