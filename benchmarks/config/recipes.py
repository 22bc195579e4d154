"""Recipes: YAML files of configurations, one a stream; a recipe may have a base."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmarks.config.complaints import complaint
from benchmarks.config.entries import PATHS, check_entries, usual
from benchmarks.config.known_keys import KEYS, check_keys
from benchmarks.config.overrides import merged, with_overrides
from benchmarks.config.recipe_files import read_files
from benchmarks.config.schema import Config, read
from benchmarks.methods.registry import Strength, check_method

_OF_FILE = ("base", "compare", "methods")


@dataclass(frozen=True)
class MethodRecipe:
    """One method on a stream.

    Attributes:
        config: the configuration, at the method's usual strength.
        coarse: strengths of a quick path; empty if the recipe gives none.
        grid: strengths of a full path, equally many for every method that a recipe compares;
            empty for a method without a strength.
    """

    config: Config
    coarse: tuple[Strength, ...]
    grid: tuple[Strength, ...]


@dataclass(frozen=True)
class Recipe:
    """A recipe file: a stream with its methods, or one method on a stream.

    Attributes:
        path: the file.
        method: the one method that the file sets; None in the recipe of a stream.
        compare: methods that a command compares by default; empty in the recipe of one method.
        alone: configuration and paths of the file's one method; in the recipe of a stream, the
            configuration has the stream's keys alone.
    """

    path: Path
    method: str | None
    compare: tuple[str, ...]
    alone: MethodRecipe
    _keys: Mapping[str, Any] = field(repr=False)
    _entries: Mapping[str, Mapping[str, Any]] = field(repr=False)

    @property
    def config(self) -> Config:
        """Configuration of the file, without the methods of ``compare``."""
        return self.alone.config

    @property
    def stream(self) -> str:
        """Name of the recipe, and of the folder of its records."""
        return self.path.stem

    def of_method(self, method: str, *overrides: Mapping[str, Any] | None) -> MethodRecipe:
        """Return the recipe of one method on this stream.

        The later of these wins: the stream's keys, the registry's settings of the method, the
        entry of the method in ``methods``, ``overrides``. Mappings merge key by key.

        Args:
            method: a method of the registry; the file need not name it.
            overrides: keys to set, such as ``{"train.lr": 1e-4}``, or None; a later one wins.

        Raises:
            ValueError: if the file is the recipe of one method, a key does not exist, or a
                value does not fit; the message begins with the file's name.
        """
        if self.method is not None:
            raise ValueError(f"{self.path.name} is the recipe of one method already")
        changes = [each for each in overrides if each is not None]
        named = [each.get("method", method) for each in changes]
        other = next((each for each in named if each != method), method)
        if other != method:
            raise ValueError(
                f"{self.path.name}: method={other!r} cannot be set, for the recipe compares "
                f"methods; say --methods {other}"
            )
        with _named(self.path):
            keys = merged(self._keys, usual(method, self._entries))
            return _resolved(keys, changes)


def load_recipe(path: Path, *overrides: Mapping[str, Any] | None) -> Recipe:
    """Load a recipe with its bases.

    In the recipe of one method the later of these wins: the bases of the file that sets
    ``method``, the registry's settings of the method, the method's entry in ``methods``, the file
    that sets ``method`` and the files that build on it, ``overrides``. Mappings merge key by key.

    Args:
        path: the file.
        overrides: keys to set, such as ``{"train.lr": 1e-4}``, or None; a later one wins.

    Raises:
        ValueError: for unknown keys, with the nearest ones, and for bad values; the message
            begins with the file's name.
    """
    files, changes = read_files(path), [each for each in overrides if each is not None]
    with _named(path):
        setter = next((k for k, file in enumerate(files) if "method" in file), len(files))
        beneath, above = _together(files[:setter]), _together(files[setter:])
        if "compare" in above:
            raise ValueError(
                f"compare={above['compare']!r}: the recipe of one method compares none"
            )
        entries = check_entries(_together(files).get("methods"))
        compare = _methods(beneath.pop("compare", None))
        for part in (beneath, above):
            part.pop("methods", None)
        method = _together([above, *changes]).get("method")
        _check_place(beneath, method)
        if method is not None:
            beneath_it = merged(beneath, usual(method, entries))
        elif compare:
            beneath_it = beneath
        else:  # plain fine-tuning, with its usual head unless the recipe names another
            beneath_it = merged(usual(Config.method, entries), beneath)
        alone = _resolved(merged(beneath_it, above), changes)
    return Recipe(path, method, () if method is not None else compare, alone, beneath, entries)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn errors of the block into a ValueError of one line that begins with the file's name."""
    try:
        yield
    except ValidationError as error:
        raise ValueError(f"{path.name}: {complaint(error)}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name}: {error}") from error


def _together(files: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    empty: dict[str, Any] = {}
    return reduce(merged, files, empty)


def _methods(compare: Any) -> tuple[str, ...]:
    """Return the methods that a file compares."""
    if compare is None:
        return ()
    if not isinstance(compare, list):
        raise ValueError(f"compare={compare!r} must be a list of methods")
    if not compare:
        raise ValueError("compare=[] names no method: leave it out, or name one")
    if len(set(map(str, compare))) < len(compare):
        raise ValueError(f"compare={compare!r}: each may be given once")
    return tuple(check_method(str(method)) for method in compare)


def _check_place(beneath: Mapping[str, Any], method: str | None) -> None:
    """Refuse keys of a method in the bases of the file that sets ``method``."""
    for key in (*PATHS, "strength") if method is not None else PATHS:
        if key in beneath:
            raise ValueError(
                f"{key}={beneath[key]!r} belongs to one method: write it under methods, or into "
                "the file that sets method"
            )


def _resolved(keys: Mapping[str, Any], overrides: Sequence[Mapping[str, Any]]) -> MethodRecipe:
    for key in chain.from_iterable(overrides):
        if key.partition(".")[0] in _OF_FILE:
            raise ValueError(f"{key!r} cannot be set: write a recipe with base: and {key} in it")
    content = with_overrides(keys, *overrides)
    check_keys(content, (*KEYS, *PATHS, *_OF_FILE))
    coarse, grid = (_strengths(key, content.pop(key, None)) for key in PATHS)
    return MethodRecipe(read(content), coarse, grid)


def _strengths(key: str, values: Any) -> tuple[Strength, ...]:
    if values is not None and not isinstance(values, (list, tuple)):
        raise ValueError(f"{key}={values!r} must be a list of numbers")
    return tuple(map(_strength, values or ()))


def _strength(value: Any) -> Strength:
    if isinstance(value, bool):
        raise ValueError(f"strengths={str(value).lower()}: give numbers, or auto")
    return "auto" if value == "auto" else float(value)
