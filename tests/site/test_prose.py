"""Pages are easy to read: short paragraphs, short sentences, plain words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.site.prose import Paragraph, grade, median_sentence, paragraphs, sentences, syllables

ROOT = Path(__file__).parents[2]
EASY = (
    "README.md",
    *(
        f"docs/learn/{name}.md"
        for name in ("index", "forgetting", "first-plugin", "first-benchmark", "reading-the-board")
    ),
)
"""Pages that a newcomer reads first: their grade is bounded too."""
PLAIN = (
    "CONTRIBUTING.md",
    *EASY,
    *(
        page
        for page in sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))
        if page not in EASY
    ),
)
"""Pages with short paragraphs and sentences, and without the words of :data:`AVOIDED`."""
MOST_LINES, MOST_WORDS, HIGHEST_GRADE = 6, 20, 10
AVOIDED = ("but for", "heed", "told", "fellow", "for ever", "thereof", "hence", "wherein", "whilst")


def of(page: str) -> list[Paragraph]:
    return paragraphs((ROOT / page).read_text(encoding="utf-8"))


def avoided(text: str) -> list[str]:
    return [word for word in AVOIDED if re.search(rf"\b{word}\b", text, re.IGNORECASE)]


@pytest.mark.parametrize("page", PLAIN)
def test_paragraphs_and_sentences_are_short(page: str) -> None:
    found = of(page)
    assert [each.text for each in found if each.lines > MOST_LINES] == []
    assert median_sentence(found) <= MOST_WORDS


@pytest.mark.parametrize("page", EASY)
def test_the_grade_is_low(page: str) -> None:
    assert grade(of(page)) <= HIGHEST_GRADE


@pytest.mark.parametrize("page", PLAIN)
def test_no_word_is_one_to_avoid(page: str) -> None:
    assert avoided((ROOT / page).read_text(encoding="utf-8")) == []


def test_every_page_is_checked() -> None:
    assert [page for page in EASY if not (ROOT / page).is_file()] == []
    assert {
        "docs/accept.md",
        "docs/results.md",
        "docs/how-to/teacher.md",
        "docs/board/board.md",
    } <= set(PLAIN)
    assert len(PLAIN) == len(set(PLAIN)) >= 70


def test_what_counts_as_prose() -> None:
    text = """# A heading

First line of `code` and [a link](page.md),
second line. Another sentence: short!

- an item
  of two lines
- $x$

| a | table |

```python
code = 1
```

$$
y
$$
"""
    assert paragraphs(text) == [
        Paragraph("First line of code and a link, second line. Another sentence: short!", 2),
        Paragraph("an item of two lines", 2),
        Paragraph("code", 1),
    ]
    assert [len(words) for words in sentences("One two. Three: it's 4 more-or-less!")] == [2, 3]


def test_syllables_and_grade() -> None:
    counts = {
        "the": 1,
        "cat": 1,
        "makes": 1,
        "little": 2,
        "learned": 1,
        "table": 2,
        "forgetting": 3,
    }
    assert {word: syllables(word) for word in counts} == counts
    hard = "Notwithstanding considerable methodological heterogeneity, representational similarity"
    easy = [Paragraph("The cat sat on the mat.", 1)]
    assert grade(easy) == pytest.approx(0.39 * 6 + 11.8 - 15.59)
    assert grade([Paragraph(hard + " deteriorates.", 1)]) > HIGHEST_GRADE
    assert avoided("Nobody was told, and all is well but for one") == ["but for", "told"]
    assert avoided("forever told-off") == ["told"]
