"""Words in the order of a data set's labels, or a refusal that shows both."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence


def by_name(
    name: str,
    labels: Sequence[str],
    words: Sequence[str],
    renamed: Mapping[str, str],
    unused: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the word of each label, matched by name and whatever the order.

    Case, blanks and signs do not count.

    Args:
        name: data set, for the error.
        labels: class names by label.
        words: words of the classes, in any order.
        renamed: word by label, where the two are no spellings of one name.
        unused: words that may belong to no label.

    Raises:
        ValueError: if a label has no word, or a word no label.

    Example:
        >>> by_name("pets", ["sphynx", "Maine_Coon"], ["Maine Coon", "Sphynx"], {})
        ('Sphynx', 'Maine Coon')
    """
    known = {normalised(word): word for word in words}
    wanted = [normalised(renamed.get(label, label)) for label in labels]
    spare = set(known) - set(wanted) - {normalised(word) for word in unused}
    if spare or set(wanted) - set(known) or len(set(wanted)) < len(wanted):
        raise ValueError(mismatch(name, labels, words))
    return tuple(known[want] for want in wanted)


def by_order(name: str, labels: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    """Return the word of each label of a data set whose labels are the numbers from 0.

    Args:
        name: data set, for the error.
        labels: class names by label.
        words: words of the classes, in order of label.

    Raises:
        ValueError: if the labels are not as many numbers from 0 as there are words.
    """
    if tuple(labels) != tuple(str(k) for k in range(len(words))):
        raise ValueError(mismatch(name, labels, words))
    return tuple(words)


def mismatch(name: str, labels: Sequence[str], words: Sequence[str], own: bool = False) -> str:
    """Return the message that class names do not match a data set's labels.

    Args:
        name: data set.
        labels: class names by label.
        words: class names that do not match.
        own: True if ``head.words`` has these class names.
    """
    remedy = "give the class names of this data set in head.words, or set head.prompts=shared"
    if own:
        remedy = "head.words must have one for each label, by label or in their order"
    return (
        f"{name}: the class names do not match the labels: {len(words)} class names "
        f"({first_of(words)}) and {len(labels)} labels ({first_of(labels)}); {remedy}"
    )


def normalised(text: str) -> str:
    """Return a text in lower case, with one blank for each run of other signs.

    >>> normalised("apartment_building/outdoor")
    'apartment building outdoor'
    """
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def first_of(names: Sequence[str]) -> str:
    """Return the first five of some names, as one text."""
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
