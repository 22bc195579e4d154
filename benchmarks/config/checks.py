"""Refuses keys of a configuration that contradict each other, or have no effect."""

from __future__ import annotations

from avalanche_proxyfda._prompts import check_template
from benchmarks.config.overrides import both_lengths
from benchmarks.config.parts import FIRST, Backbone, Head, Reference, Train

_OWNERS = {"betas": ("adamw", "adam"), "momentum": ("sgd",)}
"""Keys of ``train`` that some optimizers do not have, with those that have them."""


def check_reference(part: Reference) -> None:
    """Refuse keys of ``reference_data`` that have no effect without images.

    Raises:
        ValueError: names the key.
    """
    for name in ("texts", "count"):
        value = getattr(part, name)
        if part.images is None and value is not None:
            raise ValueError(
                f"reference_data.{name}={value} needs reference_data.images: set it to procedural, "
                "folder:…, npz:… or a set of torchvision"
            )


def check_optimizer(train: Train) -> None:
    """Refuse a key that the optimizer of ``train`` does not have, unless it has its default.

    Raises:
        ValueError: names the key and the optimizers that have it.
    """
    for name, owners in _OWNERS.items():
        value = getattr(train, name)
        if train.optimizer not in owners and value != getattr(Train(), name):
            raise ValueError(
                f"train.{name}={value}: train.optimizer={train.optimizer} has none; leave it out, "
                f"or set train.optimizer={' or '.join(owners)}"
            )


def check_head(head: Head) -> None:
    """Refuse prompts without one place of the class name, or for a head that trains without texts.

    Raises:
        ValueError: names the key, and the prompt or the other key.
    """
    if not head.templates:
        raise ValueError(
            "head.templates=[] must hold one prompt at least; leave the key out for the usual ones"
        )
    for each in head.templates:
        check_template("head.templates", each)
    template = head.train_template
    if template is None:
        return
    if head.kind != "zero-shot":
        raise ValueError(
            f"head.train_template={template!r}: head.kind={head.kind} does not train with "
            "texts; leave it out, or set head.kind=zero-shot"
        )
    if template != FIRST:
        check_template("head.train_template", template, f", or be {FIRST!r}")


def check_length(train: Train) -> None:
    """Refuse a number of steps beside a number of epochs, unless the epochs are the default.

    A whole configuration cannot tell a default from a value that was given; the places that give
    keys are checked by :func:`benchmarks.config.overrides.check_one_length`.

    Raises:
        ValueError: names both keys.
    """
    if train.steps is not None and train.epochs != Train().epochs:
        raise ValueError(both_lengths(train.steps, train.epochs))


def check_towers(backbone: Backbone, head: Head, train: Train) -> None:
    """Refuse a trained text tower without texts in the head, and its rate without the tower.

    Raises:
        ValueError: names the key, the value and the remedy.
    """
    text = backbone.train.text
    if text == "full" and head.kind != "zero-shot":
        raise ValueError(
            f"backbone.train.text=full: the head.kind={head.kind} of {backbone.name} has no texts "
            "in training; set head.kind=zero-shot, or backbone.train.text=frozen"
        )
    if text == "frozen" and train.text_lr is not None:
        raise ValueError(
            f"train.text_lr={train.text_lr:g}: the text tower is frozen; leave the rate out, or "
            "set backbone.train.text=full"
        )
