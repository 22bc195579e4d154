"""Reads untrusted YAML 1.2: plain values only, bounded in size and depth, without aliases."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar

import yaml

MAX_CHARACTERS = 16 << 20  # CODA-Prompt's longest list has 1 MB
MAX_DEPTH = 50
_TAG = "tag:yaml.org,2002:"
_SCALARS: dict[str, tuple[re.Pattern[str], str]] = {
    "null": (re.compile(r"(?:~|null|Null|NULL|)\Z"), "~nN"),
    "bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), "tTfF"),
    "int": (re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), "-+0123456789"),
    "float": (
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        "-+.0123456789",
    ),
}
"""YAML 1.2.2, section 10.3.2 (core schema): the texts of each type, and their first characters."""


def read_yaml(text: str) -> Any:
    """Parse YAML to plain values: mappings, lists, texts, numbers.

    Scalars follow the core schema of YAML 1.2: ``off``, ``no``, ``12:30`` and dates are texts,
    ``1e-4`` is a float, ``0777`` is 777 and ``0o777`` is octal. PyYAML's own loaders follow
    YAML 1.1.

    No tag creates an object. Aliases (``*name``) are refused, since a few lines of aliases
    expand to billions of values. Depth is bounded, since deep nesting crashes libyaml and
    overflows Python's stack.

    Raises:
        ValueError: if the text is refused; the message is one line.

    Example:
        >>> read_yaml("{cache: off, rate: 1e-4, mode: 0o17}")
        {'cache': 'off', 'rate': 0.0001, 'mode': 15}
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{len(text)} characters are more than {MAX_CHARACTERS}")
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):  # events arrive one by one at any depth
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"the alias *{event.anchor} is not read: write its value out")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def write_yaml(value: Any, **options: Any) -> str:
    """Return plain values as YAML that :func:`read_yaml` and readers of YAML 1.1 read alike.

    A text that either version would read as another type is quoted.

    Args:
        value: mappings, lists, texts, numbers.
        options: further arguments of ``yaml.dump``.

    Example:
        >>> write_yaml({"text": "1e-4", "number": 1e-4}).splitlines()
        ['number: 0.0001', "text: '1e-4'"]
    """
    text: str = yaml.dump(value, Dumper=_Dumper, **options)
    return text


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Resolves and constructs the scalars of :data:`_SCALARS`; every other tag is refused."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}
    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        tag: yaml.SafeLoader.yaml_constructors[tag]
        for tag in (None, *(_TAG + kind for kind in ("map", "seq", "str")))  # None refuses
    }

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave ``<<`` a key like any other, as YAML 1.2 has no merge."""


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Quotes texts that are numbers in YAML 1.2, as well as those of YAML 1.1."""


def _constructor(kind: str, value_of: Callable[[str], Any]) -> Callable[[Any, yaml.Node], Any]:
    def construct(loader: Any, node: yaml.Node) -> Any:
        text = str(loader.construct_scalar(node))
        if not _SCALARS[kind][0].match(text):
            raise yaml.constructor.ConstructorError(
                None, None, f"{text!r} is no {kind} of YAML 1.2", node.start_mark
            )
        return value_of(text)

    return construct


def _integer(text: str) -> int:
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _number(text: str) -> float:
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_VALUES: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": _integer,
    "float": lambda text: _number(text.lower()),
}
for _kind, (_pattern, _first) in _SCALARS.items():
    _firsts = [*_first, ""] if _kind == "null" else list(_first)
    _Loader.add_constructor(_TAG + _kind, _constructor(_kind, _VALUES[_kind]))
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _kind, _pattern, _firsts)
