"""Places on a user's disk: what a record keeps of a path, and what it leaves out.

A record, a page and a file name hold no absolute path and no path below a home folder. A place
below ``where.data`` is written relative to it. Of any other place, the record keeps the last part
after the word :data:`ELSEWHERE`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

DATA = "<data>"
"""Stands for the folder ``where.data``."""
ELSEWHERE = "<elsewhere>"
"""Stands for a folder outside ``where.data``; a second one is ``<elsewhere-2>``."""
_OUTSIDE = re.compile(r"<elsewhere(?:-(\d+))?>/")
_KINDS = ("folder:", "npz:", "lists:")
_APART = ("head", "method")
"""Keys whose texts are no places: prompts may begin with any character."""
_END = r"[^\s'\",;:()\[\]{}<>|]+"
_IN_TEXT = re.compile(
    rf"(?<![\w.~>/\\-])(?:~[\w.-]*/{_END}|/[^/\s'\",;:()\[\]{{}}<>|]+/{_END}|[A-Za-z]:[\\/]{_END})"
)
"""An absolute path of two parts or more, or a path below a home folder, inside a text."""


def kind_and_place(name: str) -> tuple[str, str]:
    """Return the kind of a data set's name with its colon, and the place; a kind may be empty."""
    kind = next((kind for kind in _KINDS if name.startswith(kind)), "")
    return kind, name[len(kind) :]


def is_private(place: str) -> bool:
    """Return True for an absolute path, of any system, and for a path below a home folder."""
    if place.startswith(("/", "~")):
        return True
    # parsing is slow, and most texts have neither beginning
    windows = place.startswith("\\") or place[1:2] == ":"
    return windows and PureWindowsPath(place).is_absolute()


def overlapping(one: Path, other: Path) -> bool:
    """Return True for one place twice, and for a folder with another one in it.

    >>> overlapping(Path("photos"), Path("photos/pets")), overlapping(Path("a"), Path("ab"))
    (True, False)
    """
    return one == other or one in other.parents or other in one.parents


def title_of(name: str) -> str:
    """Return a short title for a data set: the place without kind and without folders outside.

    >>> title_of("folder:<elsewhere>/pets"), title_of("npz:packs/a.npz"), title_of("CIFAR10")
    ('pets', 'packs/a.npz', 'CIFAR10')
    """
    place = kind_and_place(name)[1] or name
    outside = _OUTSIDE.match(place)
    if outside is None:
        return place
    return place[outside.end() :] + (f" ({outside[1]})" if outside[1] else "")


def panel_word(name: str) -> str:
    """Return the word by which a record names a data set of the panel."""
    return title_of(name).replace("/", "_")


def hidden(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without places of a user's disk; a second call changes nothing.

    Args:
        config: configuration as JSON's types.
    """
    names = hidden_names(config)
    content = _mapped(config, lambda text: names.get(text, text))
    where = content.get("where", {})
    if "data" in where and is_private(where["data"]):
        content["where"] = where = {**where, "data": DATA}
    for key in ("cache_dir", "pixel_dir", "url"):
        if where.get(key):
            content["where"] = where = {**where, key: scrubbed(where[key], config)}
    return content


def hidden_names(config: Mapping[str, Any]) -> dict[str, str]:
    """Return what stands in place of each private place of stream, backbone, panel and options.

    Args:
        config: configuration as JSON's types.
    """
    texts = list(dict.fromkeys(_texts(dict(sorted(config.items())))))
    base = _base(config)
    taken = {title_of(text) for text in texts if not is_private(kind_and_place(text)[1])}
    names: dict[str, str] = {}
    for text in texts:
        kind, place = kind_and_place(text)
        if not is_private(place):
            continue
        inside = _below(base, place)
        number, name = 1, inside or f"{ELSEWHERE}/{_last(place)}"
        while inside is None and title_of(name) in taken:
            number += 1
            name = f"<elsewhere-{number}>/{_last(place)}"
        taken.add(title_of(name))
        names[text] = f"{kind}{name}"
    return names


def short_place(place: str) -> str:
    """Return a hidden place outside as it is typed: ``pets``, and ``2/pets`` for a second one."""
    mark, _, name = place.partition(">/")
    number = mark.rpartition("-")[2] if "-" in mark else ""
    return f"{number}/{name}" if number else name


def places_outside(config: Mapping[str, Any]) -> dict[str, Path]:
    """Return the places outside ``where.data``, each by the name that ``--place`` takes.

    Args:
        config: configuration as JSON's types, with the places of this machine.
    """
    pairs = (tuple(kind_and_place(x)[1] for x in pair) for pair in hidden_names(config).items())
    return {short_place(name): _absolute(at) for at, name in pairs if _OUTSIDE.match(name)}


def scrubbed(text: str, config: Mapping[str, Any]) -> str:
    """Return a text of a run, such as an error or a word of its command, without places.

    Args:
        text: any text.
        config: configuration of the run, as JSON's types.
    """
    base = _base(config)
    known: dict[str, str] = {} if base is None else {str(base): DATA}
    data = config.get("where", {}).get("data", "")
    if is_private(data):
        known[data] = DATA
    for name, shown in hidden_names(config).items():
        place, short = kind_and_place(name)[1], kind_and_place(shown)[1]
        short = short if _OUTSIDE.match(short) else f"{DATA}/{short}"
        known |= {place: short, str(_absolute(place)): short}
    for place, kept in sorted(known.items(), key=lambda pair: len(pair[0]), reverse=True):
        if len(place) > 1:  # not the root
            whole = rf"{re.escape(place)}(?![\w.-])"
            text = re.sub(whole, lambda _, kept=kept: kept, text)  # type: ignore[misc]
    return _IN_TEXT.sub(lambda match: f"{ELSEWHERE}/{_last(match[0])}", text)


def without_elsewhere(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a hidden configuration in which a single folder outside is not marked as such.

    The identity of a run is of this form: a set has one name below ``where.data`` and outside.
    """
    return _mapped(config, lambda text: text.replace(f"{ELSEWHERE}/", "", 1))


def located(
    config: Mapping[str, Any], find: Callable[[str, str], str | None]
) -> tuple[dict[str, Any], list[str]]:
    """Return a configuration with places in place of :data:`ELSEWHERE`, and what was not found.

    Args:
        config: hidden configuration, as JSON's types.
        find: function of a hidden place and its last part; returns the place here, or None.
    """
    missing: list[str] = []

    def placed(text: str) -> str:
        kind, place = kind_and_place(text)
        outside = _OUTSIDE.match(place)
        if outside is None:
            return text
        here = find(place, place[outside.end() :])
        if here is None and place not in missing:
            missing.append(place)
        return text if here is None else f"{kind}{here}"

    return _mapped(config, placed), missing


def _mapped(config: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Change the texts of every part that may hold places; ``where`` stays as it is."""

    def walk(value: Any) -> Any:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, Mapping):
            return {walk_key(name): walk(part) for name, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [walk(part) for part in value]
        return value

    def walk_key(name: Any) -> Any:
        if not isinstance(name, str):
            return name
        place = kind_and_place(name)[1]  # a data set is a key of train.lr_factors
        return change(name) if is_private(place) or _OUTSIDE.match(place) else name

    kept = ("where", *_APART)
    return {key: part if key in kept else walk(part) for key, part in config.items()}


def _texts(config: Mapping[str, Any]) -> list[str]:
    found: list[str] = []

    def keep(text: str) -> str:
        found.append(text)
        return text

    _mapped(config, keep)
    return found


def _base(config: Mapping[str, Any]) -> Path | None:
    """Return the folder of the data as an absolute path; None if a record left it out."""
    data = config.get("where", {}).get("data")
    return None if not data or data == DATA else _absolute(data)


def _absolute(place: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(place)))


def _below(base: Path | None, place: str) -> str | None:
    """Return a place relative to the folder of the data; None if it is not below."""
    full = _absolute(place)
    return full.relative_to(base).as_posix() if base and full.is_relative_to(base) else None


def _last(place: str) -> str:
    """Return the last part of a path of any system."""
    return re.split(r"[\\/]", place.rstrip("\\/"))[-1] or "root"
