"""Files of published tables: strict YAML, whose errors name the file and the key."""

from __future__ import annotations

import difflib
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from avalanche_proxyfda._yaml import read_yaml
from benchmarks.results import published_parts as parts
from benchmarks.results.published import PublishedTable

PUBLISHED = Path(__file__).parents[1] / "published"
_ADAPTER: TypeAdapter[PublishedTable] = TypeAdapter(PublishedTable)
_PARTS = (
    PublishedTable,
    parts.Paper,
    parts.Protocol,
    parts.Metric,
    parts.Match,
    parts.SequenceMatch,
    parts.ImageNetRMatch,
    parts.MtilMatch,
    parts.Figure,
    parts.PublishedRow,
    parts.PublishedMean,
    parts.Discrepancy,
)
_KEYS = sorted({field.name for part in _PARTS for field in fields(part)})


def read_table(path: Path) -> PublishedTable:
    """Return the table in a file.

    Raises:
        ValueError: if the file is no mapping in YAML, a key is unknown, missing or there twice,
            a figure is no finite number, or a method is neither in the registry nor a declared
            rival; the message begins with the file's name.
        OSError: if the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = read_yaml(text)
        twice = _repeated(yaml.compose(text, Loader=yaml.SafeLoader))
    except ValueError as error:
        raise ValueError(f"{path.name} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must hold keys and values")
    if twice is not None:
        raise ValueError(f"{path.name}: {twice!r} is there twice; remove one")
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        raise ValueError(f"{path.name}: {_complaint(error)}") from None


def shipped_tables(folder: Path = PUBLISHED) -> tuple[PublishedTable, ...]:
    """Return the tables of a folder's YAML files, in the order of file names.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if a file is refused; see :func:`read_table`.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder={folder} is not there: it comes with the benchmarks")
    return tuple(read_table(path) for path in sorted(folder.glob("*.yaml")))


def _repeated(node: yaml.Node | None, path: str = "") -> str | None:
    """Return the dotted name of a key that a mapping holds twice; YAML itself keeps the last."""
    inner: list[tuple[str, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        names = [str(key.value) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                return path + name
        inner = [(f"{path}{key.value}.", value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        inner = [(f"{path}{place}.", value) for place, value in enumerate(node.value)]
    return next(filter(None, (_repeated(value, name) for name, value in inner)), None)


def _complaint(error: ValidationError) -> str:
    """Return the first error in one line, with its key and a remedy."""
    first: Any = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{place} is missing: write it"
    if first["type"] == "unexpected_keyword_argument":
        key = str(first["loc"][-1])
        near = difflib.get_close_matches(key, _KEYS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "remove it"
        return f"{place} is not a key; {hint}"
    value = first["input"]
    simple = isinstance(value, (str, int, float)) or value is None
    return f"{place}={value!r}: {message}" if place and simple else f"{place} {message}".strip()
