"""Data sets of a run by short names."""

from __future__ import annotations

from collections.abc import Sequence

from avalanche_proxyfda._names import nearest


def named_set(asked: str, names: Sequence[str]) -> str:
    """The name among ``names`` that ``asked`` stands for.

    The whole name comes first, then the last part of a path, with or without ending, then the
    beginning of a name or of its last part. Capitals do not count where no name fits with them.

    Args:
        asked: a name, or a part of one.
        names: names of the run's data sets.

    Raises:
        ValueError: if no name fits, or several do.

    >>> named_set("birds", ["photos/pets", "photos/birds"])
    'photos/birds'
    """
    word = asked.casefold().rstrip("/")
    ends = {name: name.casefold().rpartition("/")[2] for name in names}
    rules = (
        [name for name in names if name == asked],
        [name for name in names if word in (name.casefold(), ends[name], _stem(ends[name]))],
        [n for n in names if n.casefold().startswith(word) or ends[n].startswith(word)],
    )
    found = next((fitting for fitting in rules if fitting), []) if word else []
    if len(found) > 1:
        raise ValueError(f"--set {asked!r} fits {', '.join(found)}: give more of the name")
    if not found:
        near = nearest(asked, names, 1)
        raise ValueError(
            f"--set {asked!r} names no set of the run; it has {', '.join(names)}"
            + (f"; did you mean {near[0]!r}?" if near else "")
        )
    return found[0]


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name
