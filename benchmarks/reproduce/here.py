"""The places of the data of a record's run on this machine."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from avalanche_proxyfda._files import expanded
from benchmarks.config.parts import PACKAGED
from benchmarks.config.streams import EMBEDDED
from benchmarks.results.places import DATA, is_private, kind_and_place, located, short_place
from benchmarks.results.record import Record

_MOST_NAMED = 3  # data sets in a message


@dataclass(frozen=True)
class Here:
    """Places of data that a command line gives, since records hold no place of a user's disk.

    Attributes:
        data: folder of data sets and weights; None takes the record's, if it is a relative path.
        places: folder or file by the last part of its name, for places outside ``data``.
    """

    data: str | None = None
    places: Mapping[str, str] = field(default_factory=dict)

    def config(self, record: Record) -> dict[str, Any]:
        """Return the record's configuration with the places of this machine.

        Raises:
            ValueError: if the run needs a place that neither the record nor the command line
                gives, or ``data`` does not hold the run's folders; the message names the option.
        """
        content, missing = located(record.config, self._find)
        if missing:
            missing = sorted(set(missing))
            names = [short_place(place) for place in missing]
            raise ValueError(
                f"the run took {', '.join(names)} from outside its folder of data, and the record "
                "does not say where: add " + " ".join(f"--place {name}=PATH" for name in names)
            )
        where = dict(content.get("where", {}))
        if self.data is not None:
            where["data"] = self.data
            _check_parent(self.data, _folders(content))
        elif where.get("data") == DATA:
            if _needs_data(content):
                raise ValueError(
                    "the record does not say in which folder the data were: add --data DIR"
                    + _parent(_folders(content))
                )
            del where["data"]
        for key in ("cache_dir", "pixel_dir"):
            if "<" in (where.get(key) or ""):
                where[key] = None  # a cache saves time alone
        return {**content, "where": where}

    def _find(self, place: str, name: str) -> str | None:
        for key in (place, short_place(place)):
            if key in self.places:
                return str(Path(self.places[key]).expanduser().absolute())
        if self.data is None:
            return None
        inside = Path(self.data).expanduser() / name
        return str(inside.absolute()) if inside.exists() else None


def add_places(parser: argparse.ArgumentParser) -> None:
    """Declare ``--data`` and ``--place``."""
    parser.add_argument(
        "--data",
        default=None,
        metavar="DIR",
        help="parent folder of the run's data sets, and of its weights; default: the record's, if "
        "that is a relative path",
    )
    parser.add_argument(
        "--place",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="where a folder or file is that the run took from outside its folder of data",
    )


def here_of(args: argparse.Namespace) -> Here:
    """Return the places that the options of :func:`add_places` give.

    Raises:
        ValueError: for a place without name or path.
    """
    return Here(args.data, dict(map(_pair, args.place)))


def _needs_data(content: Mapping[str, Any]) -> bool:
    """Return True if the run reads files: images that are not embedded, texts, or weights."""
    sets = content["panel"]["sets"]
    weights = content["backbone"].get("weights")
    embedded = content["stream"]["kind"] == "concepts" and all(name in EMBEDDED for name in sets)
    in_file = weights not in (None, "random") and not weights.startswith(PACKAGED)
    return not embedded or in_file or bool(reference_places(content))


def _folders(content: Mapping[str, Any]) -> list[str]:
    """Return the folders of photographs that the run took from its folder of data."""
    names = [*content["stream"].get("sets", ()), *content["panel"]["sets"]]
    names += reference_places(content)
    places = [place for kind, place in map(kind_and_place, names) if kind == "folder:"]
    return [place for place in places if not is_private(place)]


def reference_places(content: Mapping[str, Any]) -> list[str]:
    """Return the images and texts of the reference data that are files."""
    part, made = content.get("reference_data", {}), ("procedural", "random", "classes")
    given = [part.get(key) for key in ("images", "texts")]
    return [name for name in given if name is not None and name not in made]


def _parent(folders: Sequence[str]) -> str:
    """Return words on the folder that holds the data sets of a run."""
    if not folders:
        return ""
    held = " and ".join(f"DIR/{folder}" for folder in folders[:_MOST_NAMED])
    more = " and so on" if len(folders) > _MOST_NAMED else ""
    return f", the parent folder of the run's data sets: it holds {held}{more}"


def _check_parent(data: str, folders: Sequence[str]) -> None:
    """Refuse a data set in place of its parent folder.

    Raises:
        ValueError: if a data set of the run is not below ``data``; the message names the set
            that was given in place of the parent.
    """
    given = Path(os.path.abspath(expanded(data)))
    absent = [folder for folder in folders if not (given / folder).exists()]
    for folder in absent:
        parts = PurePosixPath(folder).parts
        if given.parts[-len(parts) :] == parts:
            parent = Path(*given.parts[: -len(parts)])
            raise ValueError(
                f"--data {data} is the data set {folder} itself: give the parent folder, "
                f"--data {parent}"
            )
    if absent:
        raise ValueError(
            f"--data {data} does not hold {', '.join(absent[:_MOST_NAMED])}: give DIR"
            + _parent(folders)
        )


def _pair(text: str) -> tuple[str, str]:
    name, sign, path = text.partition("=")
    if not (name and sign and path):
        raise ValueError(f"--place {text!r}: give NAME=PATH, as in pets=photos/pets")
    return name, path
