"""The arguments of a plugin and of its base classes: one signature, one help, near names."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

_ENTRY = re.compile(r"    (\w+(?:, \w+)*): ")
_POINTER = re.compile(r"    [\w, ]+: see :class:`[~.\w]*Plugin`")


def arguments_of(kind: type) -> dict[str, inspect.Parameter] | None:
    """Return every argument of a class, with those that it takes as ``**options``.

    Options are typed: ``**options: Unpack[SomeTypedDict]`` lists their names. The default of an
    option is that of the nearest base class that names the option.

    Args:
        kind: a class.

    Returns:
        Parameters by name; the class's own come first. None if the class takes keywords that no
        type lists.
    """
    first, *bases = [c for c in kind.__mro__ if "__init__" in vars(c)]
    own = _parameters(first)
    named = {p.name: p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD}
    if len(named) == len(own):
        return named
    keys = _option_names(first)
    if keys is None:
        return None
    for base in bases:
        for parameter in _parameters(base):
            if parameter.name in keys and parameter.name not in named:
                keyword = inspect.Parameter.KEYWORD_ONLY
                named[parameter.name] = parameter.replace(kind=keyword)
    return named


def _parameters(kind: type) -> list[inspect.Parameter]:
    """Return the parameters of a class's own ``__init__``, apart from ``self``."""
    return list(inspect.signature(vars(kind)["__init__"]).parameters.values())[1:]


def _option_names(kind: type) -> frozenset[str] | None:
    """Return the names that the typed ``**options`` of a class list; None without a type."""
    try:
        parameters = inspect.signature(vars(kind)["__init__"], eval_str=True).parameters.values()
    except (NameError, TypeError, AttributeError):  # names that exist for type checkers alone
        return None
    (options,) = [p for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
    types = get_args(options.annotation)
    names = getattr(types[0], "__annotations__", None) if len(types) == 1 else None
    return None if names is None else frozenset(names)


def check_names(kind: str, arguments: Iterable[str], given: Iterable[str]) -> None:
    """Raise TypeError, with the nearest name, for a keyword that a class does not take.

    Args:
        kind: name of the class.
        arguments: names of its arguments.
        given: names of the keywords that a call gives.

    Example:
        >>> check_names("FDAPlugin", ["weight", "num_neighbors"], ["num_neighbor"])
        Traceback (most recent call last):
        TypeError: FDAPlugin has no argument 'num_neighbor'; did you mean 'num_neighbors'?
    """
    known = list(arguments)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            remedy = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise TypeError(f"{kind} has no argument {name!r}; {remedy}")


def signature_of(kind: type) -> inspect.Signature | None:
    """Return the signature with every argument of a class; None for unknown keywords."""
    arguments = arguments_of(kind)
    if arguments is None:
        return None
    return inspect.Signature(sorted(arguments.values(), key=lambda p: p.kind))


def explained(kind: type) -> str | None:
    """Return the docstring of a class, with the entries of its base classes for all arguments.

    An entry of ``Args`` that only names another plugin gives way to that plugin's entry.

    Args:
        kind: a class.

    Returns:
        The docstring; None if the class has none of its own.
    """
    own, arguments = vars(kind).get("__doc__"), arguments_of(kind)
    if own is None or arguments is None:
        return own
    text = inspect.cleandoc(own)
    entries = dict(_entries(text, arguments))
    missing = [name for name in arguments if name not in entries]
    if not missing:
        return text
    known: dict[str, str] = {}
    for base in kind.__mro__[1:]:
        doc = vars(base).get("__doc__")
        if doc is not None:
            known = {**dict(_entries(inspect.cleandoc(doc), missing)), **known}
    further = dict.fromkeys(known[name] for name in missing if name in known)
    lines = [*dict.fromkeys(entries.values()), *further]
    head, _, tail = _split(text)
    return "\n".join([*head, "Args:", *lines, *(["", *tail] if tail else [])])


def _split(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return the lines of a docstring before, in and after its ``Args`` section."""
    lines = text.splitlines()
    if "Args:" not in lines:
        ends = [k for k, line in enumerate(lines) if re.fullmatch(r"[A-Z]\w+:", line)]
        at = ends[0] if ends else len(lines)
        before = lines[:at] if ends else [*lines, ""]
        return before, [], lines[at:]
    start = lines.index("Args:")
    after = [k for k in range(start + 1, len(lines)) if lines[k] and not lines[k].startswith(" ")]
    end = after[0] if after else len(lines)
    section = lines[start + 1 : end]
    while section and not section[-1]:
        section.pop()
    return lines[:start], section, lines[end:]


def _entries(text: str, names: Iterable[str]) -> Mapping[str, str]:
    """Return the entries of ``Args`` that explain one of ``names``, by name."""
    found: dict[str, str] = {}
    wanted, current = set(names), list[str]()

    def close() -> None:
        match = _ENTRY.match(current[0]) if current else None
        if match is not None and not _POINTER.match(current[0]):
            for name in match[1].split(", "):
                if name in wanted:
                    found[name] = "\n".join(current)

    for line in _split(text)[1]:
        if _ENTRY.match(line):
            close()
            current = []
        current.append(line)
    close()
    return found


def describe(kind: Any) -> None:
    """Set the signature and the docstring of a class that takes typed options."""
    kind.__signature__ = signature_of(kind)
    kind.__doc__ = explained(kind)
