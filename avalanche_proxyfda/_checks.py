"""Checks of arguments: each returns its value, or raises with the name and the remedy."""

from __future__ import annotations

import math


def check_count(name: str, value: int, least: int) -> int:
    """Return ``value``; raise TypeError or ValueError unless it is an int >= ``least``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} must be an int")
    if value < least:
        raise ValueError(f"{name}={value} must be at least {least}")
    return value


def check_amount(name: str, value: float) -> float:
    """Return ``value`` as a float; raise unless it is a finite number >= 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r} must be a number")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}={value} must be finite and not negative")
    return float(value)


def check_number_on_weights(name: str, value: float) -> float:
    """As :func:`check_amount`; the error for ``"auto"`` says why a method on weights has none."""
    if isinstance(value, str) and value == "auto":
        raise TypeError(
            f"{name}='auto' must be a number: the method acts on weights, whose drift has no "
            "common scale with that of features, so no rule finds the value in training; choose a "
            "number"
        )
    return check_amount(name, value)


def check_flag(name: str, value: bool) -> bool:
    """Return ``value``; raise TypeError unless it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be True or False")
    return value


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {choices}")


def named_kind(value: object) -> str:
    """Return the class of ``value`` with its article, for messages.

    Example:
        >>> from avalanche_proxyfda._checks import named_kind
        >>> named_kind([]), named_kind(3), named_kind(None)
        ('a list', 'an int', 'None')
    """
    name = type(value).__name__
    if value is None:
        return "None"
    return f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"
