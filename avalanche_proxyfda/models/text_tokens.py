"""Token ids of texts, with a refusal of texts that lose their end."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def text_tokens(tokenizer: Callable[..., Tensor], texts: Sequence[str]) -> Tensor:
    """Return the token ids [M, L] of M texts.

    open_clip's tokenizers cut a text that is longer than the context, and say nothing. A row that
    may be cut is tokenized again in twice the context. The text is whole if the longer row is the
    row with padding put in. Only a tokenizer with the argument ``context_length`` can be
    asked. Any other must refuse such texts itself.

    Args:
        tokenizer: maps a list of texts to token ids, as open_clip's tokenizers do.
        texts: M texts.

    Raises:
        ValueError: if a text is longer than the context of the tokenizer.

    Example:
        >>> from avalanche_proxyfda.models.text_tokens import text_tokens
        >>> from open_clip import SimpleTokenizer
        >>> tokenizer = SimpleTokenizer(context_length=6)
        >>> text_tokens(tokenizer, ["a red square"]).shape
        torch.Size([1, 6])
    """
    tokens = tokenizer(list(texts))
    if not len(texts) or not _takes_context(tokenizer):
        return tokens
    length = tokens.shape[1]
    blank = tokenizer([""], context_length=2 * length)[0]
    padding = int(torch.mode(blank.cpu()).values)
    for row in _perhaps_cut(tokens.cpu(), padding):
        short = tokens[row].tolist()
        long = tokenizer([texts[row]], context_length=2 * length)[0].tolist()
        if not _is_padded(long, short, padding):
            raise ValueError(
                f"the text {texts[row]!r} is longer than the context of {length} tokens of the "
                "model, and would lose its end: shorten the prompt or the class name"
            )
    return tokens


def _takes_context(tokenizer: Any) -> bool:
    try:
        parameters = inspect.signature(tokenizer).parameters
    except (TypeError, ValueError):  # a callable of C has no signature
        return False
    return "context_length" in parameters


def _perhaps_cut(tokens: Tensor, padding: int) -> list[int]:
    """Return the rows that do not end in two paddings.

    The last id of a cut text may be its end-of-text, and some tokenizers pad with that id.
    """
    if tokens.shape[1] < 2:
        return list(range(len(tokens)))
    rows: list[int] = (tokens[:, -2:] != padding).any(dim=1).nonzero()[:, 0].tolist()
    return rows


def _is_padded(long: list[int], short: list[int], padding: int) -> bool:
    """Return True if ``long`` is ``short`` with paddings at one place."""
    extra = len(long) - len(short)
    same = 0
    while same < len(short) and long[same] == short[same]:
        same += 1
    # the common start may reach into the paddings, so they may begin before its end
    return any(
        long[at : at + extra] == [padding] * extra and long[at + extra :] == short[at:]
        for at in range(same, -1, -1)
    )
