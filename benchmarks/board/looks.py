"""The look of each method: classes and colours on the page, colours and markers in figures.

Each call reads ``benchmarks/methods/registry.py``. A method that the registry does not have is
grey. A combination of methods has the colour of its method and the marker of its last companion.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from markupsafe import Markup

from benchmarks.methods import registry
from benchmarks.methods.combined import parts_of


class Look(NamedTuple):
    """A method in the figures.

    Attributes:
        colour: colour as ``"#rrggbb"``.
        marker: marker of matplotlib.
    """

    colour: str
    marker: str


UNKNOWN = Look("#57606a", "o")
"""The look of methods that the registry does not have, in the page's ``--muted``."""


def look_of(method: str) -> Look:
    """Return colour and marker of a method in figures."""
    first, *_, last = (*parts_of(method),) * 2
    if not {first, last} <= set(registry.METHODS):
        return UNKNOWN
    return Look(registry.METHODS[first].colour, registry.METHODS[last].marker)


def class_of(method: str) -> str:
    """Return the classes that give a method its colour on the page.

    Every method has the class ``own``. A method of the registry has a second class: its name, in
    which characters other than ``a-z``, ``0-9`` and ``-`` are written as ``_`` and their code. A
    combination has the second class of its method.
    """
    first = parts_of(method)[0]
    return f"own {_class(first)}" if first in registry.METHODS else "own"


def _class(method: str) -> str:
    return "m-" + re.sub(r"[^a-z0-9-]", lambda match: f"_{ord(match[0]):x}_", method)


def style(methods: Iterable[str]) -> Markup:
    """Return a CSS rule with light and dark colour for each method of the registry."""
    known = [(name, registry.METHODS[name]) for name in methods if name in registry.METHODS]
    return Markup("\n").join(
        Markup(".{}{{--light:{};--dark:{}}}").format(
            _class(name), method.colour, method.dark_colour
        )
        for name, method in known
    )
