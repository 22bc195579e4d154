"""Reads untrusted YAML: plain values only, bounded in size and depth, without aliases."""

from __future__ import annotations

from typing import Any

import yaml

MAX_CHARACTERS = 16 << 20  # CODA-Prompt's longest list has 1 MB
MAX_DEPTH = 50
# exceptions of PyYAML for a tag with a wrong value (!!bool maybe, !!timestamp soon)
_OF_CONSTRUCTORS = (ArithmeticError, AttributeError, LookupError, TypeError)


def read_yaml(text: str) -> Any:
    """Parse YAML to plain values: mappings, lists, texts, numbers.

    No tag creates an object. Aliases (``*name``) are refused, since a few lines of aliases
    expand to billions of values. Depth is bounded, since deep nesting crashes libyaml and
    overflows Python's stack.

    Raises:
        ValueError: if the text is refused; the message is one line.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{len(text)} characters are more than {MAX_CHARACTERS}")
    fast = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=fast):  # events arrive one by one at any depth
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"the alias *{event.anchor} is not read: write its value out")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        return yaml.load(text, Loader=fast)
    except (yaml.YAMLError, RecursionError, *_OF_CONSTRUCTORS) as error:
        raise ValueError(" ".join(str(error).split())) from error
