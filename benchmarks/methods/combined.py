"""Names, strengths and versions of a run that combines methods: one, and its companions."""

from __future__ import annotations

import math
from collections.abc import Mapping

from benchmarks.methods.registry import METHODS, Strength, check_method, strength_text, version_of

Companions = Mapping[str, Strength]
"""Strengths of further methods whose terms the same run adds, by method."""
_PLUS = " + "


def check_companions(method: str, companions: Companions) -> None:
    """Refuse companions that no run can have, as far as names and numbers say.

    ``benchmarks.methods.plugins`` refuses companions without a term on features.

    Args:
        method: the run's method.
        companions: see :data:`Companions`.

    Raises:
        ValueError: if the method has no plugin, a companion is unknown or the method itself, or a
            strength is negative or not finite.
    """
    if companions and METHODS[check_method(method)].plugin is None:
        first = next(iter(companions))
        raise ValueError(
            f"companions={dict(companions)}: {method} has no term of its own; set "
            f"method={first} and leave out the companion {first}"
        )
    for name, strength in companions.items():
        try:
            check_method(name)
        except ValueError as error:
            raise ValueError(f"companions.{name}: {error}") from None
        if name == method:
            raise ValueError(f"companions.{name}: it is the run's method, once is enough")
        if not isinstance(strength, str) and not (math.isfinite(strength) and strength >= 0):
            raise ValueError(
                f"companions.{name}={strength} must be finite and not negative, or auto"
            )


def combined_name(method: str, companions: Companions) -> str:
    """Return the name of a combination of methods, whose parts :func:`parts_of` returns.

    Example:
        >>> combined_name("soft-fda", {"ldifs": 300.0}), combined_name("ldifs", {})
        ('soft-fda + ldifs', 'ldifs')
    """
    return _PLUS.join([method, *sorted(companions)])


def parts_of(name: str) -> tuple[str, ...]:
    """Return the methods of a combination.

    Example:
        >>> parts_of("soft-fda + ldifs")
        ('soft-fda', 'ldifs')
    """
    return tuple(name.split(_PLUS))


def combined_strength(strength: Strength | None, companions: Companions) -> str:
    """Return the strengths of a combination to read; empty for a method without one.

    Example:
        >>> combined_strength(3.0, {"ldifs": 300.0}), combined_strength("auto", {})
        ('3 + 300', 'auto')
    """
    own = [] if strength is None else [strength_text(strength)]
    return _PLUS.join([*own, *(strength_text(companions[name]) for name in sorted(companions))])


def force_of(method: str, strength: Strength | None, companions: Companions) -> tuple[float, ...]:
    """Return numbers that order the settings of one combination, the weakest first.

    The method's own strength comes first, then those of the companions in the order of their
    names. ``"auto"`` comes last.

    Args:
        method: the run's method.
        strength: value of the method's knob; None for a method without a knob.
        companions: see :data:`Companions`.

    Example:
        >>> force_of("soft-fda", 1.0, {"ldifs": 300.0}) < force_of("soft-fda", 1.0, {"ldifs": 1e3})
        True
        >>> force_of("wise-ft", 0.8, {}) < force_of("wise-ft", 0.2, {})
        True
    """
    parts = [(method, strength), *((name, companions[name]) for name in sorted(companions))]
    return tuple(_force(name, value) for name, value in parts)


def _force(method: str, strength: Strength | None) -> float:
    if strength is None or isinstance(strength, str):
        return -math.inf if strength is None else math.inf
    return -strength if method in METHODS and METHODS[method].weakens else strength


def about_of(name: str) -> str:
    """Return one line about a method or a combination; empty if a method of it is unknown."""
    parts = parts_of(name)
    if not all(part in METHODS for part in parts):
        return ""
    return "; and ".join(METHODS[part].about for part in parts)


def versions_of(method: str, companions: Companions) -> dict[str, int | None]:
    """Return the present versions of a run's methods; None for a method that is unknown here."""
    return {name: version_of(name) for name in (method, *sorted(companions))}
