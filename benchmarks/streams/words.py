"""Words for classes, from which the text tower makes their embeddings."""

from __future__ import annotations

import re

from benchmarks.streams.stream import Stream
from benchmarks.streams.texts.entries import ENTRIES

_WNID = re.compile(r"n\d{8}")


class NoWordsError(ValueError):
    """The classes of a data set have no words, so that texts cannot stand for them."""


def class_names(stream: Stream) -> tuple[tuple[str, ...], ...]:
    """Words for the classes of a stream, by task or for all.

    Raises:
        ValueError: if :func:`words_of` refuses the names.
    """
    return tuple(words_of(names) for names in stream.classes)


def shown_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Class names for people: WordNet ids of ImageNet become words, other names stay."""
    if not names or not all(_WNID.fullmatch(name) for name in names):
        return names
    try:
        return _imagenet_words(names)
    except (ValueError, ImportError):  # not ImageNet's, or timm is not installed
        return names


def words_of(names: tuple[str, ...], name: str = "") -> tuple[str, ...]:
    """Words for the classes of one data set; WordNet ids become ImageNet's class names.

    Args:
        names: class names by label.
        name: data set, for the error.

    Raises:
        NoWordsError: if a WordNet id is none of ImageNet's, the names are numbers, or two classes
            have the same name.
    """
    words = tuple(text.replace("_", " ") for text in names)
    of_set = f"{name}: " if name else ""
    if names and all(_WNID.fullmatch(text) for text in names):
        return _imagenet_words(names, of_set)
    if len(names) > 10 and all(text.isdigit() for text in names):
        remedy = "set head.kind=probe or random"
        if name in ENTRIES:
            remedy = f"set head.prompts=per-set, which has words for {name}, or head.kind=probe"
        raise NoWordsError(
            f"{of_set}the {len(names)} classes have numbers for names: texts have no words for "
            f"them; {remedy}"
        )
    if len(set(words)) < len(words):
        raise NoWordsError(
            f"{of_set}two classes have the same name: their texts cannot separate them"
        )
    return words


def _imagenet_words(wnids: tuple[str, ...], of_set: str = "") -> tuple[str, ...]:
    """CLIP's names of ImageNet's classes; two classes of one name get their WordNet lemmas."""
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    place = {wnid: k for k, wnid in enumerate(info.label_names())}
    unknown = [wnid for wnid in wnids if wnid not in place]
    if unknown:
        raise NoWordsError(
            f"{of_set}{len(unknown)} classes are not ImageNet's ({', '.join(unknown[:3])}): texts "
            "have no words for them; set head.kind=probe or random"
        )
    words = [IMAGENET_CLASSNAMES[place[wnid]] for wnid in wnids]
    return tuple(
        info.label_name_to_description(wnid) if words.count(word) > 1 else word
        for wnid, word in zip(wnids, words, strict=True)
    )
