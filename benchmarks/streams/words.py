"""Words for classes, from which a zero-shot head makes its prompts."""

from __future__ import annotations

from benchmarks.streams.stream import Stream


def class_names(stream: Stream) -> tuple[tuple[str, ...], ...]:
    """Words for the classes of a stream; WordNet ids become ImageNet's class names.

    Raises:
        ValueError: if a WordNet id is none of ImageNet's, or :func:`words_of` refuses the names.
    """
    if not stream.grows:
        return tuple(words_of(names) for names in stream.classes)
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    place = {wnid: k for k, wnid in enumerate(ImageNetInfo().label_names())}
    unknown = [wnid for wnid in stream.classes[0] if wnid not in place]
    if unknown:
        raise ValueError(
            f"{len(unknown)} classes are not ImageNet's ({', '.join(unknown[:3])}): the "
            "zero-shot head has no words for them; set head.kind=probe"
        )
    return (tuple(IMAGENET_CLASSNAMES[place[wnid]] for wnid in stream.classes[0]),)


def words_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Words for the classes of one data set.

    Raises:
        ValueError: if the names are numbers, or two classes have the same name.
    """
    words = tuple(name.replace("_", " ") for name in names)
    if len(names) > 10 and all(name.isdigit() for name in names):
        raise ValueError(
            f"the {len(names)} classes have numbers for names: the zero-shot head has no "
            "words for them; set head.kind=probe"
        )
    if len(set(words)) < len(words):
        raise ValueError("two classes have the same name: a zero-shot head cannot separate them")
    return words
