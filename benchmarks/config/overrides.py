"""Merges configurations: a file over its base, and ``--set`` over a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from avalanche_proxyfda._yaml import read_yaml

_OTHER_LENGTH = {"steps": "epochs", "epochs": "steps"}
"""Keys of ``train`` that set the length of an experience, each with the key that it replaces."""


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """Return pairs such as ``["train.lr=1e-4"]`` as a mapping; values are YAML 1.2.

    Raises:
        ValueError: for a pair without ``=``, a key that is given twice, or a value that is not
            YAML.
    """
    overrides = {}
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
    return overrides


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` overridden by ``above``; neither is changed.

    Mappings merge key by key. A stream of another kind replaces the one below as a whole.
    ``train.steps`` above replaces ``train.epochs`` below, and the reverse.
    """
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            if key == "train":
                old = _without_other_length(old, value)
            same_kind = value.get("kind", old.get("kind")) == old.get("kind")
            result[key] = merged(old, value) if same_kind or key != "stream" else value
        else:
            result[key] = value
    return result


def with_overrides(content: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``content`` with single keys set; ``content`` itself is unchanged.

    ``train.steps`` replaces the ``train.epochs`` of ``content``, and the reverse.

    Args:
        content: a configuration.
        overrides: values by dotted key, such as ``{"train.lr": 1e-4}``.
    """
    others = dict(overrides)
    kind = others.pop("stream.kind", None)  # first, since it may clear the stream's other keys
    result = merged(content, {} if kind is None else {"stream": {"kind": kind}})
    if isinstance(train := result.get("train"), Mapping):
        lengths = {name: others.get(f"train.{name}") for name in _OTHER_LENGTH}
        result["train"] = _without_other_length(train, lengths)
    for key, value in others.items():
        _put(result, key, value)
    return result


def _without_other_length(train: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``train`` without the length of an experience that ``above`` replaces.

    ``above`` replaces nothing if it sets neither length, both, or one as null.
    """
    given = [name for name in _OTHER_LENGTH if above.get(name) is not None]
    replaced = {_OTHER_LENGTH[given[0]]} if len(given) == 1 else set()
    return {key: value for key, value in train.items() if key not in replaced}


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    """Set ``key``, or ``a.b`` of a nested mapping, which is copied on the way."""
    *outer, last = key.split(".")
    for name in outer:
        inner = content.get(name)
        content[name] = content = dict(inner) if isinstance(inner, Mapping) else {}
    content[last] = value
