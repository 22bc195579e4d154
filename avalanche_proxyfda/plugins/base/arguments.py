"""The arguments of a plugin and of its base classes: one signature, one help, near names."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

_ENTRY = re.compile(r"    (\w+(?:, \w+)*): ")
_SYMBOLS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("lam", "lambda_", "lambd"), ("weight", "mu")),
    "alpha": ("weight", "variance_weight"),  # lambda of rivals; the paper's of the generator
    **dict.fromkeys(("K", "k", "num_neighbours"), ("num_neighbors",)),
}
"""Symbols of the papers and other spellings, with the arguments that stand for them."""
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


def check_names(
    kind: str, arguments: Iterable[str], given: Iterable[str], kin: Iterable[type] = ()
) -> None:
    """Raise TypeError, with the nearest name, for a keyword that a class does not take.

    Args:
        kind: name of the class.
        arguments: names of its arguments.
        given: names of the keywords that a call gives.
        kin: classes that take further arguments; the message names the one that has the keyword.

    Example:
        >>> from avalanche_proxyfda.plugins.base.arguments import check_names
        >>> check_names("FDAPlugin", ["weight", "num_neighbors"], ["num_neighbor"])
        Traceback (most recent call last):
        TypeError: FDAPlugin has no argument 'num_neighbor'; did you mean 'num_neighbors'?
        >>> check_names("FDAPlugin", ["weight", "num_neighbors"], ["lam"])
        Traceback (most recent call last):
        TypeError: FDAPlugin has no argument 'lam'; did you mean 'weight'?
    """
    known = list(arguments)
    for name in given:
        if name not in known:
            owners = [each.__name__ for each in kin if name in (arguments_of(each) or ())]
            meant = [each for each in _SYMBOLS.get(name, ()) if each in known]
            near = meant or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            if owners:
                remedy = f"it is an argument of {owners[0]}"
            elif near:
                remedy = f"did you mean {' or '.join(map(repr, near))}?"
            else:
                remedy = f"it has {', '.join(known)}"
            raise TypeError(f"{kind} has no argument {name!r}; {remedy}")


def check_positional(kind: str, signature: inspect.Signature, count: int) -> None:
    """Raise TypeError for more positional arguments than a class takes: its strength alone.

    Args:
        kind: name of the class.
        signature: all arguments of the class.
        count: number of positional arguments that a call gives.

    Example:
        >>> import inspect
        >>> from avalanche_proxyfda.plugins.base.arguments import check_positional
        >>> check_positional("FDAPlugin", inspect.signature(lambda weight=1.0, *, seed=0: 0), 2)
        Traceback (most recent call last):
        TypeError: FDAPlugin takes 1 positional argument ('weight'), and 2 were given: only the \
strength is positional, give the others by name
    """
    taken = [p for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    if count <= len(taken) or any(p.kind is p.VAR_POSITIONAL for p in taken):
        return
    if not taken:
        raise TypeError(
            f"{kind} takes no positional argument, and {count} were given: give all by name"
        )
    names = ", ".join(repr(p.name) for p in taken)
    raise TypeError(
        f"{kind} takes {len(taken)} positional argument{'' if len(taken) == 1 else 's'} ({names}), "
        f"and {count} were given: only the strength is positional, give the others by name"
    )


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
