"""YAML that others wrote: plain values alone, bounded in size and depth, without aliases."""

from __future__ import annotations

from typing import Any

import yaml

MAX_CHARACTERS = 16 << 20  # CODA-Prompt's longest list is of 1 MB
MAX_DEPTH = 50
# what PyYAML raises for tags whose values do not fit them (!!bool maybe, !!timestamp soon)
_OF_CONSTRUCTORS = (ArithmeticError, AttributeError, LookupError, TypeError)


def read_yaml(text: str) -> Any:
    """The plain values (mappings, lists, texts, numbers) that ``text`` holds.

    No tag makes an object. Aliases (``*name``) are refused, for a few lines of them stand for
    billions of values, and depth is bounded, for libyaml and Python's own stack are not.

    Raises:
        ValueError: in one line, when it is not such YAML.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{len(text)} characters are more than {MAX_CHARACTERS}")
    fast = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=fast):  # events come one by one, whatever the depth
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
