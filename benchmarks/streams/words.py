"""Words for classes, from which the text tower makes their embeddings."""

from __future__ import annotations

import re

from benchmarks.streams.stream import Stream

_WNID = re.compile(r"n\d{8}")


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


def words_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Words for the classes of one data set; WordNet ids become ImageNet's class names.

    Raises:
        ValueError: if a WordNet id is none of ImageNet's, the names are numbers, or two classes
            have the same name.
    """
    if names and all(_WNID.fullmatch(name) for name in names):
        return _imagenet_words(names)
    words = tuple(name.replace("_", " ") for name in names)
    if len(names) > 10 and all(name.isdigit() for name in names):
        raise ValueError(
            f"the {len(names)} classes have numbers for names: texts have no words for them; "
            "set head.kind=probe or random"
        )
    if len(set(words)) < len(words):
        raise ValueError("two classes have the same name: their texts cannot separate them")
    return words


def _imagenet_words(wnids: tuple[str, ...]) -> tuple[str, ...]:
    """CLIP's names of ImageNet's classes; two classes of one name get their WordNet lemmas."""
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    place = {wnid: k for k, wnid in enumerate(info.label_names())}
    unknown = [wnid for wnid in wnids if wnid not in place]
    if unknown:
        raise ValueError(
            f"{len(unknown)} classes are not ImageNet's ({', '.join(unknown[:3])}): texts have no "
            "words for them; set head.kind=probe or random"
        )
    words = [IMAGENET_CLASSNAMES[place[wnid]] for wnid in wnids]
    return tuple(
        info.label_name_to_description(wnid) if words.count(word) > 1 else word
        for wnid, word in zip(wnids, words, strict=True)
    )
