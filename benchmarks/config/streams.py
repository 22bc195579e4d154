"""The kinds of streams.

A new kind is one dataclass here, named in :data:`AnyStream`, and one module in
``benchmarks/streams/kinds``.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args, get_type_hints

from pydantic.dataclasses import dataclass

from benchmarks.config.fields import STRICT, key

SEQUENCE = ("digits", "greek", "textures", "cyrillic")
"""Data sets that the embedded stream learns by default, in order."""


@dataclass(frozen=True, config=STRICT)
class Concepts:
    """The embedded stream: small data sets, each with its own labels."""

    kind: Literal["concepts"] = "concepts"
    sets: Annotated[tuple[str, ...], key("data sets to learn, in order")] = SEQUENCE


@dataclass(frozen=True, config=STRICT)
class Sequence:
    """Data sets one after the other."""

    kind: Literal["sequence"]
    sets: Annotated[
        tuple[str, ...], key("names of torchvision, npz:FILE or folder:FOLDER, in order")
    ]
    shared_labels: Annotated[bool, key("true: one label space for all sets")] = False
    validation_share: Annotated[
        float,
        key(
            "share of train to hold out if no validation split is published; 0: no validation",
            ge=0,
            le=0.5,
        ),
    ] = 0.1
    validation_seed: Annotated[int, key("seed of the held-out split")] = 0
    shots: Annotated[
        int | None,
        key("largest number of training images a class; null: all", since_records=False, ge=1),
    ] = None
    shots_seed: Annotated[
        int, key("seed of the choice of these images", since_records=False, ge=0)
    ] = 0
    shots_list: Annotated[
        str | None,
        key("JSON file of the training images, by set and class", since_records=False),
    ] = None
    download: Annotated[bool, key("true lets torchvision download missing data")] = False
    on_corrupt: Annotated[
        Literal["raise", "drop"], key("stop at a broken image, or skip it and note it")
    ] = "raise"

    def __post_init__(self) -> None:
        if self.shots is not None and self.shots_list is not None:
            raise ValueError(
                f"shots={self.shots} and shots_list={self.shots_list!r} both choose the training "
                "images: leave one out"
            )
        if self.shots is None and self.shots_seed:
            raise ValueError(f"shots_seed={self.shots_seed} has no effect without shots: set it")


@dataclass(frozen=True, config=STRICT)
class ImageNetR:
    """Split ImageNet-R, a group of classes at a time."""

    kind: Literal["imagenet-r"]
    root: Annotated[str, key("archive (tar, zip) or folder")] = "imagenet-r"
    num_experiences: Annotated[int, key("a divisor of 200", ge=1)] = 10
    split: Annotated[
        Literal["hash80", "coda", "presplit"] | None,
        key("null: presplit if the data have train/ and test/, else hash80"),
    ] = None
    lists: Annotated[tuple[str, str] | None, key("CODA-Prompt's YAML files")] = None
    order: Annotated[
        str | tuple[int, ...], key("pilot-SEED, coda-RUN, identity, or all class ids")
    ] = "pilot-1993"
    validation_share: Annotated[
        float, key("share of each class's training images to hold out", ge=0, le=0.5)
    ] = 0.1
    on_corrupt: Annotated[
        Literal["raise", "drop"], key("stop at a broken image, or skip it and note it")
    ] = "raise"


AnyStream = Concepts | Sequence | ImageNetR
"""The kinds of streams; the key ``kind`` names one."""
KINDS: tuple[str, ...] = tuple(
    get_args(get_type_hints(kind)["kind"])[0] for kind in get_args(AnyStream)
)
