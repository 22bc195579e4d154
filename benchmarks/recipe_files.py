"""Recipes: YAML files of configurations, which may build on each other."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import ValidationError

from benchmarks.config import Config, complaint, read
from benchmarks.methods.registry import check_method
from benchmarks.safe_yaml import read_yaml

RECIPES = Path(__file__).parent / "recipes"
_OWN = ("base", "methods", "coarse", "grid")


@dataclass(frozen=True)
class Recipe:
    """A recipe file.

    Attributes:
        path: the file.
        config: what it says, overrides included.
        methods: a stream's recipe: the methods to compare, whose own recipes lie in the
            folder of its name; empty in a method's recipe.
        coarse: the strengths of a quick path.
        grid: those of a full one, as many for every method.
    """

    path: Path
    config: Config
    methods: tuple[str, ...] = ()
    coarse: tuple[float, ...] = ()
    grid: tuple[float, ...] = ()

    @property
    def stream(self) -> str:
        """Name of the stream's recipe: its own, or that of the folder that it lies in."""
        above = self.path.parent
        return above.name if above.with_suffix(".yaml").is_file() else self.path.stem

    def of_method(self, method: str) -> Path:
        """The file of one method on this stream."""
        return self.path.with_suffix("") / f"{check_method(method)}.yaml"


def find_recipe(name: str | Path) -> Path:
    """The file called ``name``, from here or from the folder of recipes.

    Raises:
        FileNotFoundError: when there is none; names those that come near.
    """
    own = RECIPES.parent / name
    for path in (Path(name), own, RECIPES / name):
        if path.is_file():
            return path.resolve()
    known = [str(p.relative_to(RECIPES)) for p in sorted(RECIPES.rglob("*.yaml"))]
    near = difflib.get_close_matches(str(name).removeprefix("recipes/"), known, n=3, cutoff=0.4)
    raise FileNotFoundError(
        f"config={str(name)!r} is no file; near ones among the recipes: "
        + (", ".join(near) or ", ".join(p.name for p in sorted(RECIPES.glob("*.yaml"))))
    )


def load_recipe(path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe, with what it builds on, and with ``overrides`` (``{"train.lr": 1e-4}``).

    Raises:
        ValueError: for keys that do not exist, near ones named, and for bad values; the
            message begins with the file's name.
    """
    content, changes = _content(path, ()), dict(overrides or {})
    kind = changes.pop("stream.kind", None)
    if kind is not None:
        content = _merged(content, {"stream": {"kind": kind}})
    for key, value in changes.items():
        _put(content, key, value)
    own = {key: content.pop(key) for key in _OWN if key in content}
    _check_keys(content, path.name)
    try:
        config = read(content)
        extra = {
            "methods": tuple(check_method(m) for m in own.get("methods") or ()),
            "coarse": tuple(float(x) for x in own.get("coarse") or ()),
            "grid": tuple(float(x) for x in own.get("grid") or ()),
        }
    except ValidationError as error:
        raise ValueError(f"{path.name}: {complaint(error)}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    return Recipe(path, config, **extra)


@cache
def _read(path: Path) -> str:
    return path.read_text()


def _content(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """What a file and its bases say together."""
    if path in above:
        raise ValueError(f"{path.name}: it is its own base")
    try:
        content = read_yaml(_read(path)) or {}
    except ValueError as error:
        raise ValueError(f"{path.name} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must hold keys and values")
    base = content.pop("base", None)
    if base is None:
        return content
    beneath = (path.parent / str(base)).resolve()
    if not beneath.is_file():
        raise ValueError(f"{path.name}: base={base!r} is no file")
    below = _content(beneath, (*above, path))
    below.pop("methods", None)  # a recipe of one method compares none
    return _merged(below, content)


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(below)
    for key, value in above.items():
        old = made.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        if both and value.get("kind", old.get("kind")) != old.get("kind"):
            both = key != "stream"  # another kind of stream: nothing of the old one applies
        made[key] = _merged(old, value) if both else value
    return made


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    """Set ``key``, ``a.b`` of nested ones."""
    *outer, last = key.split(".")
    for name in outer:
        inner = content.get(name)
        content[name] = content = dict(inner) if isinstance(inner, dict) else {}
    content[last] = value


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """``["train.lr=1e-4"]`` as a mapping; values are YAML.

    Raises:
        ValueError: for a pair without ``=``.
    """
    made = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise ValueError(f"--set {pair!r}: give key=value, as in train.lr=1e-4")
        try:
            made[key] = read_yaml(value)
        except ValueError as error:
            raise ValueError(f"--set {pair!r}: the value is not YAML: {error}") from error
    return made


def _kinds(annotation: Any) -> list[Any]:
    """The dataclasses that a field may hold."""
    if is_dataclass(annotation):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in _kinds(part)]


def _check_keys(content: Mapping[str, Any], file: str) -> None:
    """Refuse unknown keys with the nearest known ones, before values are looked at."""

    def walk(part: Mapping[str, Any], kind: Any, path: str) -> None:
        hints = get_type_hints(kind)
        names = [f.name for f in fields(kind)] + ([] if path else list(_OWN))
        for key, value in part.items():
            if key not in names:
                near = difflib.get_close_matches(str(key), names, n=1)
                hint = f"did you mean {path + near[0]!r}?" if near else f"known: {', '.join(names)}"
                raise ValueError(f"{file}: {path + str(key)!r} is not a key; {hint}")
            inner = _kinds(hints[key]) if isinstance(value, Mapping) and key in hints else []
            if len(inner) > 1:
                known = {get_args(get_type_hints(k)["kind"])[0]: k for k in inner}
                if value.get("kind") not in known:
                    raise ValueError(
                        f"{file}: {path}{key}.kind={value.get('kind')!r} must be one of "
                        + ", ".join(known)
                    )
                inner = [known[value["kind"]]]
            if inner:
                walk(value, inner[0], f"{path}{key}.")

    walk(content, Config, "")
