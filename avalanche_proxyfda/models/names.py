"""Errors for unknown names of models."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from avalanche_proxyfda._names import nearest

FAMILIES = ("open_clip", "timm")
"""Libraries whose models have names that begin with the library's."""


def near(kind: str, value: str, known: Iterable[str]) -> ValueError:
    """Return the error that ``value`` is unknown, with the most similar names.

    Example:
        >>> from avalanche_proxyfda.models.names import near
        >>> print(near("the model", "resnet5", ["resnet50", "vit"]))
        the model 'resnet5' is unknown; near ones: resnet50
    """
    names = list(known)
    found = difflib.get_close_matches(value, names, n=3, cutoff=0.5) or names[:3]
    return ValueError(f"{kind} {value!r} is unknown; near ones: {', '.join(found)}")


def check_backbone_name(name: str, key: str = "name", own: Iterable[str] = ()) -> None:
    """Refuse a name that is neither ``open_clip:...`` nor ``timm:...``.

    Args:
        name: name of the backbone.
        key: name of the argument or setting, with which the message begins.
        own: names that the caller has beside those of the libraries, for the message.

    Raises:
        ValueError: if the name has no library or no model; the message holds the nearest names.

    Example:
        >>> from avalanche_proxyfda.models.names import check_backbone_name
        >>> check_backbone_name("timm:resnet18")
    """
    family, _, model = name.partition(":")
    if family in FAMILIES and model:
        return
    own = list(own)
    known = {each: each for each in own} | _names_without_library()
    found = nearest(model or family, known)
    if found and found[0].casefold() == (model or family).casefold():  # it lacks the library
        found = found[:1]
    forms = ["'open_clip:ARCHITECTURE/TAG'", "'timm:MODEL'", *map(repr, own)]
    hint = f"; did you mean {' or '.join(repr(known[word]) for word in found)}?" if found else ""
    raise ValueError(
        f"{key}={name!r} is unknown: give {', '.join(forms[:-1])} or {forms[-1]}{hint}"
    )


def _names_without_library() -> dict[str, str]:
    """Return the names of backbones by the part after the library."""
    import open_clip

    names = {f"{of}/{tag}": f"open_clip:{of}/{tag}" for of, tag in open_clip.list_pretrained()}
    try:
        import timm
    except ImportError:
        return names
    return {model: f"timm:{model}" for model in timm.list_models()} | names
