"""The prose of a Markdown page, and how easy it is to read."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass

_BLOCKS = re.compile(r"^(```+|~~~+).*?^\1|^\$\$.*?^\$\$", re.DOTALL | re.MULTILINE)
_ITEM = re.compile(r"^\s*(?:[-*]|\d+\.)\s+")
_VOWELS = re.compile(r"[aeiouy]+")


@dataclass(frozen=True)
class Paragraph:
    """A paragraph or an item of a list.

    Attributes:
        text: prose without markup.
        lines: number of lines in the source.
    """

    text: str
    lines: int


def paragraphs(markdown: str) -> list[Paragraph]:
    """Paragraphs and items of lists; headings, tables, code, pictures and formulas are no prose."""
    found: list[Paragraph] = []
    lines: list[str] = []

    def end() -> None:
        if lines:
            text = plain(" ".join(_ITEM.sub("", line).strip() for line in lines))
            if re.search(r"[A-Za-z]", text):
                found.append(Paragraph(text, len(lines)))
            lines.clear()

    for line in _BLOCKS.sub("", markdown).splitlines():
        if not line.strip() or line.startswith(("#", "|", "![")):
            end()
            continue
        if _ITEM.match(line):
            end()
        lines.append(line)
    end()
    return found


def plain(text: str) -> str:
    """Text without links' targets, emphasis, code and formulas."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`|\$[^$]*\$", "code", text)
    return re.sub(r"[*_\\]", "", text)


def sentences(text: str) -> list[list[str]]:
    """Words of each sentence; a colon or a semicolon ends none."""
    parts = re.split(r"(?<=[.!?])\s+", text)
    words = (re.findall(r"[A-Za-zÀ-ÿ]+(?:['’-][A-Za-zÀ-ÿ]+)*", part) for part in parts)
    return [each for each in words if each]


def syllables(word: str) -> int:
    """Syllables of an English word, by its groups of vowels."""
    word = word.lower()
    count = len(_VOWELS.findall(word))
    silent = re.search(r"[^aeiouyl]e$|[^aeiouy]les$|[^aeiouydt]ed$|[^aeiouycgszx]es$", word)
    return max(1, count - bool(silent))


def grade(found: list[Paragraph]) -> float:
    """Flesch-Kincaid grade (Kincaid et al., 1975) of all paragraphs together."""
    spoken = [sentence for each in found for sentence in sentences(each.text)]
    words = [word for sentence in spoken for word in sentence]
    total = sum(map(syllables, words))
    return 0.39 * len(words) / len(spoken) + 11.8 * total / len(words) - 15.59


def median_sentence(found: list[Paragraph]) -> float:
    """Median number of words in a sentence."""
    return statistics.median(len(s) for each in found for s in sentences(each.text))
