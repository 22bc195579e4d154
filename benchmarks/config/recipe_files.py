"""Files of recipes: finds them, and reads a recipe with its bases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avalanche_proxyfda._files import expanded
from avalanche_proxyfda._names import nearest
from avalanche_proxyfda._yaml import read_yaml
from benchmarks.config.overrides import check_one_length
from benchmarks.methods.registry import METHODS

RECIPES = Path(__file__).parents[1] / "recipes"


def find_recipe(name: str | Path) -> Path:
    """Return the file called ``name``, in the working directory or the folder of recipes.

    Raises:
        FileNotFoundError: if there is no such file; names similar recipes.
    """
    name = expanded(name)
    for path in (name, RECIPES.parent / name, RECIPES / name):
        if path.is_file():
            return path.resolve()
    stream, method = name.parent.name, name.stem
    if method in METHODS and f"{stream}.yaml" in shipped():
        raise FileNotFoundError(
            f"config={str(name)!r} is no file: the recipe of a stream holds its methods; "
            f"say --config {stream}.yaml --methods {method}"
        )
    near = nearest(str(name).removeprefix("recipes/"), shipped(), cutoff=0.4)
    raise FileNotFoundError(
        f"config={str(name)!r} is no file; near ones among the recipes: "
        + ", ".join(near or shipped())
    )


def _hint(name: str) -> str:
    near = nearest(name, shipped(), 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def shipped() -> list[str]:
    """Return the names of the recipes that come with the benchmarks."""
    return [path.name for path in sorted(RECIPES.glob("*.yaml"))]


def read_files(path: Path, above: tuple[Path, ...] = ()) -> list[dict[str, Any]]:
    """Return the contents of a recipe's file and of its bases, the lowest base first.

    Args:
        path: the recipe's file.
        above: files that build on ``path``.

    Raises:
        ValueError: if a file is no mapping in YAML or gives two lengths of an experience, a base
            does not exist, or a base leads back to itself; the message begins with the file's
            name.
    """
    if path in above:
        raise ValueError(f"{path.name}: it is its own base")
    try:
        content = read_yaml(path.read_text(encoding="utf-8")) or {}
    except ValueError as error:
        raise ValueError(f"{path.name} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must hold keys and values")
    if isinstance(content.get("methods"), list):  # a list compares, a mapping changes
        if "compare" in content:
            raise ValueError(f"{path.name}: methods and compare both list methods: leave one out")
        content["compare"] = content.pop("methods")
    _check_lengths(content, path.name)
    base = content.pop("base", None)
    if base is None:
        return [content]
    places = ((path.parent / expanded(str(base))).resolve(), RECIPES / str(base))
    below = next((place for place in places if place.is_file()), None)
    if below is None:
        raise ValueError(
            f"{path.name}: base={base!r} is no file{_hint(str(base))}, neither beside "
            f"{path.name} nor among the recipes {', '.join(shipped())}"
        )
    return [*read_files(below, (*above, path)), content]


def _check_lengths(content: dict[str, Any], name: str) -> None:
    """Refuse two lengths of an experience in the keys of a file, or of one of its methods."""
    check_one_length(content, f"{name}: ")
    methods = content.get("methods")
    for method, entry in methods.items() if isinstance(methods, dict) else ():
        if isinstance(entry, dict):
            check_one_length(entry, f"{name}: methods.{method}: ")
