"""Class words and prompts that a user gives in a file: the value of ``head.words``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from avalanche_proxyfda._prompts import check_template
from avalanche_proxyfda._yaml import read_yaml
from benchmarks.config.complaints import complaint
from benchmarks.config.fields import STRICT
from benchmarks.results.places import (
    ELSEWHERE,
    hidden_names,
    is_private,
    kind_and_place,
    title_of,
)


@dataclass(frozen=True, config=STRICT)
class SetWords:
    """Words and prompts of one data set.

    Attributes:
        classes: a word for each class, in order of label, or by label's name; None keeps those
            that the data set has without the file.
        templates: prompts with ``{}`` for the word; None keeps those without the file.
    """

    classes: tuple[str, ...] | dict[str, str] | None = None
    templates: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        words = self.classes.values() if isinstance(self.classes, dict) else self.classes
        listed = None if words is None else list(words)
        if listed is not None and (not listed or not all(word.strip() for word in listed)):
            raise ValueError("classes must be texts that are not empty, at least one")
        if listed is not None and len(set(listed)) < len(listed):
            twice = next(word for word in listed if listed.count(word) > 1)
            raise ValueError(f"classes has {twice!r} twice: texts cannot separate the two classes")
        if self.templates is not None and not self.templates:
            raise ValueError("templates must be prompts, at least one; leave the key out for none")
        for template in self.templates or ():
            check_template("templates", template)


_ADAPTER: TypeAdapter[dict[str, SetWords]] = TypeAdapter(dict[str, SetWords])


def read_words(path: Path) -> dict[str, SetWords]:
    """Return the words and prompts of a JSON or YAML file, by name of a data set.

    Args:
        path: file that maps names of data sets to ``classes`` and ``templates``.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is neither JSON nor YAML, or a value does not fit; the message is
            one line.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"head.words: {path} is no file; a relative path lies in where.data"
        )
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else read_yaml(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"head.words: {path.name} cannot be read: {error}") from error
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        raise ValueError(f"head.words: {path.name}: {complaint(error)}") from None


def with_set_names(words: Mapping[str, SetWords], config: Mapping[str, Any]) -> dict[str, SetWords]:
    """Return words by :func:`set_name`, so that a record holds no place of a user's disk.

    Args:
        words: words by the names of data sets as a user writes them.
        config: configuration as JSON's types.

    Raises:
        ValueError: if two names mean one data set, or an absolute path is no set of the run.
    """
    named: dict[str, SetWords] = {}
    for name, texts in words.items():
        short = set_name(name, config)
        if is_private(kind_and_place(short)[1]):
            raise ValueError(
                f"head.words names {title_of(short)!r} by an absolute path, and it is no data set "
                "of this run: leave it out, or write it relative to where.data"
            )
        if short in named:
            raise ValueError(f"head.words names the data set {short!r} twice: leave one out")
        named[short] = texts
    return named


def set_name(name: str, config: Mapping[str, Any]) -> str:
    """Return the name of a data set without places outside ``where.data``.

    Args:
        name: name of a data set as the configuration has it.
        config: configuration as JSON's types.
    """
    return hidden_names(config).get(name, name).replace(f"{ELSEWHERE}/", "", 1)
