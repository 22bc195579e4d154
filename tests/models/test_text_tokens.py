"""A text that is longer than the context is refused, whatever the tokenizer's padding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from open_clip import SimpleTokenizer
from torch import Tensor

from avalanche_proxyfda.models import text_head
from avalanche_proxyfda.models.text_tokens import text_tokens
from benchmarks.models import tiny_clip

LENGTH = 7
START, END, PAD = 98, 99, 0
Row = Callable[[list[int], int], list[int]]


def right(ids: list[int], length: int) -> list[int]:
    """Padded at the end, as open_clip's own tokenizer pads."""
    kept = [START, *ids[: length - 2], END]
    return kept + [PAD] * (length - len(kept))


def left(ids: list[int], length: int) -> list[int]:
    kept = [START, *ids[: length - 2], END]
    return [PAD] * (length - len(kept)) + kept


def ended(ids: list[int], length: int) -> list[int]:
    """Padded with the end of the text, as SigLIP's tokenizer pads; no start of the text."""
    kept = ids[: length - 1]
    return kept + [END] * (length - len(kept))


def classed(ids: list[int], length: int) -> list[int]:
    """A class token stands behind the padding."""
    kept = [START, *ids[: length - 3], END]
    return kept + [PAD] * (length - 1 - len(kept)) + [97]


@pytest.mark.parametrize(("row", "specials"), [(right, 2), (left, 2), (ended, 1), (classed, 3)])
@pytest.mark.parametrize("word", [None, 5], ids=["other words", "one word"])
def test_the_text_of_each_length_is_whole_or_refused(
    row: Row, specials: int, word: int | None
) -> None:
    def tokenizer(texts: list[str], context_length: int = LENGTH) -> Tensor:
        rows = [[int(part) for part in text.split()] for text in texts]
        return torch.tensor([row(ids, context_length) for ids in rows])

    for count in range(3 * LENGTH):
        text = " ".join(str(word or 10 + k) for k in range(count))
        if count + specials <= LENGTH:
            assert text_tokens(tokenizer, ["1", text]).tolist()[1] == row(
                [word or 10 + k for k in range(count)], LENGTH
            )
        else:
            with pytest.raises(ValueError, match=f"'{text}' is longer than the context of 7 "):
                text_tokens(tokenizer, ["1", text])


def test_open_clips_tokenizer_and_heads() -> None:
    tokenizer = SimpleTokenizer(context_length=6)
    fits, cut = "a large red square", "a very large red square"
    assert torch.equal(text_tokens(tokenizer, [fits]), tokenizer([fits]))
    assert tokenizer([cut])[0, -1] == tokenizer([fits])[0, -1]  # it says nothing
    with pytest.raises(ValueError, match=r"'a very large red square' is longer .* 6 tokens"):
        text_tokens(tokenizer, [fits, cut])
    clip = tiny_clip.load()
    short = SimpleTokenizer(context_length=4)
    with pytest.raises(ValueError, match=r"'a photo of a red' is longer .* shorten the prompt"):
        text_head(clip, short, ["red"], ["a photo of a {}"])
    with pytest.raises(ValueError, match=r"has 5. bytes; at most 51 fit"):  # tiny-clip's own
        text_head(clip, tiny_clip.tokenize, ["red " * 13], ["{}"])


def test_a_tokenizer_without_a_context_is_asked_once() -> None:
    calls = []

    def tokenizer(texts: list[str]) -> Tensor:
        calls.append(texts)
        return torch.ones(len(texts), 3, dtype=torch.long)

    assert text_tokens(tokenizer, ["a", "b"]).shape == (2, 3)
    assert calls == [["a", "b"]]
    assert text_tokens(SimpleTokenizer(), []).shape == (0, 77)
