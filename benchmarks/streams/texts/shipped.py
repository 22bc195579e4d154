"""Class names and prompts that the distribution ``clip-benchmark`` ships as two JSON files.

The files are read from the installed distribution. No code of it is imported, so its own
requirements are not needed.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

NAMES = "clip_benchmark/datasets/en_classnames.json"
PROMPTS = "clip_benchmark/datasets/en_zeroshot_classification_templates.json"
INSTALL = (
    "install the extra 'mtil', or run `pip install --no-deps clip-benchmark`, since two files of "
    "it are read and none of its code"
)


@cache
def shipped_names() -> dict[str, tuple[str, ...]]:
    """Return class names by clip-benchmark's name of a data set.

    Raises:
        ImportError: if clip-benchmark is not installed.
        ValueError: if its file holds anything else than lists of texts.
    """
    return _lists(_content(NAMES), NAMES)


@cache
def shipped_templates() -> dict[str, tuple[str, ...]]:
    """Return prompts by clip-benchmark's name of a data set, with ``{}`` for the class name.

    Raises:
        ImportError: if clip-benchmark is not installed.
        ValueError: if its file holds anything else than lists of texts with one ``{c}`` each.
    """
    listed = _lists(_content(PROMPTS), PROMPTS)
    return {name: tuple(converted(text, name) for text in texts) for name, texts in listed.items()}


def converted(template: str, name: str) -> str:
    """Return a prompt of clip-benchmark with ``{}`` in place of its ``{c}``.

    Args:
        template: prompt with one ``{c}``.
        name: data set, for the error.

    Raises:
        ValueError: if ``{c}`` does not stand there once, or there are other braces.

    Example:
        >>> converted("a photo of a {c}.", "pets")
        'a photo of a {}.'
    """
    parts = template.split("{c}")
    if len(parts) != 2 or any(brace in part for part in parts for brace in "{}"):
        raise ValueError(
            f"{name}: the prompt {template!r} of clip-benchmark must hold {{c}} once and no other "
            "brace; give the prompts in head.words"
        )
    return "{}".join(parts)


def _content(file: str) -> Any:
    try:
        path = Path(str(distribution("clip-benchmark").locate_file(file)))
    except PackageNotFoundError as error:
        raise ImportError(
            f"class names and prompts of data sets are those of clip-benchmark: {INSTALL}"
        ) from error
    if not path.is_file():
        raise ImportError(f"the installed clip-benchmark has no file {file}: {INSTALL}")
    return json.loads(path.read_text(encoding="utf-8"))


def _lists(content: Any, file: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(content, dict):
        raise ValueError(f"{file} of clip-benchmark must map names to lists of texts")
    for name, texts in content.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{file} of clip-benchmark: {name!r} must be a list of texts")
    return {name: tuple(texts) for name, texts in content.items()}
