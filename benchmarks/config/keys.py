"""The keys of a configuration as lists, read from the dataclasses themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from avalanche_proxyfda._yaml import write_yaml
from benchmarks.config.schema import Config


@dataclass(frozen=True)
class Key:
    """A key of the configuration, or a part, which has keys of its own.

    Attributes:
        name: dotted name.
        about: description; values that may be chosen come first.
        default: default as YAML; None for a part.
    """

    name: str
    about: str
    default: str | None = None


def keys_help() -> str:
    """Return all keys with their defaults for ``--help``, one line a key."""
    lines = (
        f"  {key.name}: {key.about}"
        if key.default is None
        else f"    {key.name} = {key.default}    {key.about}"
        for key in described_keys()
    )
    return "\n".join(["keys, with their defaults:", *lines])


def described_keys() -> Iterator[Key]:
    """Yield all keys of a configuration and their parts, in order, each part before its keys."""
    return _described(Config, "")


def later_keys() -> dict[str, Any]:
    """Return defaults by dotted name of the keys that are marked ``since_records=False``.

    The defaults have JSON's types, as in records.
    """
    return dict(_marked(Config, ""))


def _described(kind: Any, path: str) -> Iterator[Key]:
    hints = get_type_hints(kind)
    for field in fields(kind):
        annotation = hints[field.name]
        nested = _nested(annotation)
        for each in nested:
            yield Key(f"{path}{field.name}", (each.__doc__ or "").splitlines()[0])
            yield from _described(each, f"{path}{field.name}.")
        if nested:
            continue
        about = next((note.description for note in _notes(kind, field.name)), "")
        if get_origin(annotation) is Literal:
            about = f"{' | '.join(get_args(annotation))}  {about}".rstrip()
        yield Key(f"{path}{field.name}", about, _written(field))


def _marked(kind: Any, path: str) -> Iterator[tuple[str, Any]]:
    for field in fields(kind):
        for each in _nested(get_type_hints(kind)[field.name]):
            yield from _marked(each, f"{path}{field.name}.")
        for note in _notes(kind, field.name):
            if (note.json_schema_extra or {}).get("since_records") is False:
                yield f"{path}{field.name}", _listed(_default(field))


def _nested(annotation: Any) -> list[Any]:
    return [each for each in (annotation, *get_args(annotation)) if is_dataclass(each)]


def _notes(kind: Any, name: str) -> tuple[Any, ...]:
    """Return the descriptions that :func:`benchmarks.config.fields.key` gave to a field."""
    annotation = get_type_hints(kind, include_extras=True)[name]
    return getattr(annotation, "__metadata__", ())


def _default(field: Field[Any]) -> Any:
    value, make = field.default, field.default_factory
    if make is MISSING:  # pydantic keeps a factory inside the default
        make = getattr(value, "default_factory", None) or MISSING
    return value if make is MISSING else make()


def _written(field: Field[Any]) -> str:
    """Return the default of a key as YAML."""
    value = _default(field)
    if value is MISSING:
        return "(needed)"
    text = write_yaml(_listed(value), default_flow_style=True, width=1000)
    return text.strip().removesuffix("...").strip()


def _listed(value: Any) -> Any:
    """Return a tuple as a list, a part as its keys, and any other value as it is."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _listed(getattr(value, field.name)) for field in fields(value)}
    return list(value) if isinstance(value, tuple) else value
