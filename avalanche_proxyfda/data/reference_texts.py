"""Texts for reference data: a file, class names, or strings of random tokens."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._files import expanded
from avalanche_proxyfda._random import generator


def random_tokens(
    count: int = 80,
    length: int = 8,
    vocabulary: int = 49408,
    seed: int = 0,
    *,
    ends: tuple[int, int] | None = None,
) -> Tensor:
    """Return strings of random tokens, as Lipsum-FT compares with (Nam et al., ICLR 2024).

    The paper has 80 strings of 8 tokens. A start and an end token stand around the random ones,
    since a text tower of CLIP reads the feature of a text at its end token. The random tokens
    are drawn evenly from the others.

    Args:
        count: M, number of strings.
        length: number of random tokens of a string.
        vocabulary: number of tokens of the text tower; 49408 is CLIP's.
        seed: seed of the strings; no global stream is used.
        ends: ids of the start and the end token; None takes the last two, as CLIP has them.

    Returns:
        Token ids, int64 [M, length + 2].

    Raises:
        TypeError, ValueError: for a number out of range.

    Example:
        >>> from avalanche_proxyfda.data.reference_texts import random_tokens
        >>> random_tokens(2, 3, vocabulary=10, seed=0).shape
        torch.Size([2, 5])
    """
    check_count("count", count, 1)
    check_count("length", length, 1)
    check_count("vocabulary", vocabulary, 4)
    check_count("seed", seed, 0)
    start, end = (vocabulary - 2, vocabulary - 1) if ends is None else ends
    if not (0 <= start < vocabulary and 0 <= end < vocabulary):
        raise ValueError(f"ends={ends} must be ids below vocabulary={vocabulary}")
    others = torch.tensor([k for k in range(vocabulary) if k not in (start, end)])
    stream = generator("random tokens", seed)
    drawn = others[torch.randint(len(others), (count, length), generator=stream)]
    return torch.nn.functional.pad(
        torch.nn.functional.pad(drawn, (1, 0), value=start), (0, 1), value=end
    )


def texts_of_file(path: str | os.PathLike[str]) -> list[str]:
    """Return the lines of a text file in UTF-8, without blank ones.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: for a file without text, or in another encoding.
    """
    place = Path(expanded(path))
    if not place.is_file():
        raise FileNotFoundError(
            f"there is no file of reference texts at {place}: give a file with a text in each line"
        )
    try:
        lines = place.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is no text in UTF-8: {error}") from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise ValueError(f"{place} holds no text: write one a line")
    return texts


def texts_of_classes(names: Sequence[str], template: str = "a photo of a {}.") -> list[str]:
    """Return one text for each class name, without repeats.

    Raises:
        ValueError: for no name, or a template without ``{}``.

    Example:
        >>> from avalanche_proxyfda.data.reference_texts import texts_of_classes
        >>> texts_of_classes(["cat", "dog", "cat"], "a {}.")
        ['a cat.', 'a dog.']
    """
    if "{}" not in template:
        raise ValueError(
            f"template={template!r} lacks {{}}: put it in the place of the class name, as in "
            "'a photo of a {}.'"
        )
    if isinstance(names, str) or not names:
        raise ValueError(f"names={names!r} must be a sequence of class names")
    return [template.replace("{}", name) for name in dict.fromkeys(names)]
