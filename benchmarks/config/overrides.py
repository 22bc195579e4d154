"""Merges configurations: a file over its base, and ``--set`` over a file.

A place is one source of keys: a recipe's file, the pairs of ``--set``, or ``set`` and each variant
of a matrix. The keys of a later place win.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from avalanche_proxyfda._yaml import read_yaml

_LENGTHS = ("epochs", "steps")
"""Keys of ``train`` that set the length of an experience; a later one replaces the other."""


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """Return pairs such as ``["train.lr=1e-4"]`` as a mapping; values are YAML 1.2.

    A part that is given as a mapping is split: ``train={lr: 1e-4}`` is ``train.lr=1e-4``.

    Raises:
        ValueError: for a pair without ``=``, a key that is given twice, also within a part, two
            lengths of an experience, or a value that is not YAML.
    """
    overrides: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise ValueError(f"--set {pair!r}: give key=value, as in train.lr=1e-4")
        if key in overrides:
            raise ValueError(f"--set {pair!r}: {key} is given twice; drop one of the two")
        try:
            overrides[key] = read_yaml(value)
        except ValueError as error:
            raise ValueError(f"--set {pair!r}: the value is not YAML: {error}") from error
    return dotted(overrides, "--set ")


def nested(settings: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Return the keys of one place as a recipe's file would hold them.

    Args:
        settings: values by key; a key may be dotted, such as ``train.lr``, and may be a part with
            a mapping.
        place: what gives the keys, with which messages begin.

    Raises:
        ValueError: for a key that is given twice, and for two lengths of an experience.
    """
    content: dict[str, Any] = {}
    for key, value in settings.items():
        for name in reversed(str(key).split(".")):
            value = {name: value}
        content = _joined(content, value, place)
    check_one_length(content, place)
    return content


def dotted(settings: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Return the keys of one place with two names at most, as ``train.lr`` and ``seed``.

    Args:
        settings: see :func:`nested`.
        place: see :func:`nested`.

    Raises:
        ValueError: see :func:`nested`.
    """
    keys: dict[str, Any] = {}
    for name, part in nested(settings, place).items():
        if isinstance(part, Mapping) and part:
            keys |= {f"{name}.{key}": value for key, value in part.items()}
        else:
            keys[name] = part
    return keys


def check_one_length(content: Mapping[str, Any], place: str = "") -> None:
    """Refuse ``train.steps`` beside ``train.epochs`` in one place, whatever their values are.

    A null is no length.

    Args:
        content: a configuration, or keys of one.
        place: what gives the keys, with which the message begins.

    Raises:
        ValueError: names both keys.
    """
    train = content.get("train")
    if not isinstance(train, Mapping):
        return
    steps, epochs = train.get("steps"), train.get("epochs")
    if steps is not None and epochs is not None:
        raise ValueError(place + both_lengths(steps, epochs))


def both_lengths(steps: object, epochs: object) -> str:
    """Return the message on two lengths of an experience."""
    return (
        f"train.steps={steps} and train.epochs={epochs} both set the length of an experience: "
        "leave one out"
    )


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` overridden by ``above``; neither is changed.

    Mappings merge key by key, and any other value replaces the one below. A stream of another
    kind replaces the one below as a whole. Of ``train.steps`` and ``train.epochs``, the one that
    is set later comes last; :func:`with_overrides` keeps it alone.
    """
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            if key == "train":
                old = {name: each for name, each in old.items() if not _set_again(name, value)}
            same_kind = value.get("kind", old.get("kind")) == old.get("kind")
            result[key] = merged(old, value) if same_kind or key != "stream" else value
        else:
            result[key] = value
    return result


def with_overrides(content: Mapping[str, Any], *places: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``content`` with the keys of each place merged in; ``content`` itself is unchanged.

    Of ``train.steps`` and ``train.epochs``, the result has the one that was set later: the one
    that comes last in ``content``, or the one of a later place. A null is no length.

    Args:
        content: a configuration.
        places: keys such as ``{"train.lr": 1e-4}``, see :func:`nested`; a later place wins.

    Raises:
        ValueError: see :func:`nested`.
    """
    result = dict(content)
    for place in places:
        result = merged(result, nested(place))
    if isinstance(train := result.get("train"), Mapping):
        result["train"] = _with_last_length(train)
    return result


def _joined(one: Mapping[str, Any], other: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the keys of both; ``path`` begins the message on a key that both give."""
    result = dict(one)
    for key, value in other.items():
        old = result.get(key)
        if key not in result:
            result[key] = value
        elif isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = _joined(old, value, f"{path}{key}.")
        else:
            raise ValueError(f"{path}{key} is given twice; drop one of the two")
    return result


def _set_again(name: str, above: Mapping[str, Any]) -> bool:
    return name in _LENGTHS and name in above


def _with_last_length(train: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``train`` without the length of an experience that was set earlier."""
    given = [name for name in train if name in _LENGTHS and train[name] is not None]
    replaced = set(_LENGTHS) - set(given[-1:]) if given else set()
    return {name: value for name, value in train.items() if name not in replaced}
