"""The kinds of streams.

A new kind is one dataclass here, named in :data:`AnyStream`, and one module in
``benchmarks/streams/kinds``.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args, get_type_hints

from pydantic.dataclasses import dataclass

from benchmarks.config.fields import STRICT, key
from benchmarks.config.mtil import Mtil, XTail
from benchmarks.config.orders import Order, ordered
from benchmarks.config.shots import Shots, ShotsList, ShotsSeed, check_shots

SEQUENCE = ("digits", "greek", "textures", "cyrillic")
"""Data sets that the embedded stream learns by default, in order."""
EMBEDDED = (*("digits", "shapes", "textures", "colours", "latin", "greek", "cyrillic", "printed"),)
"""All data sets that need no file."""
CONCEPTS_MTIL = {
    "I": ("digits", "greek", "textures", "cyrillic", "shapes", "latin"),
    "II": ("cyrillic", "latin", "digits", "shapes", "greek", "textures"),
}
"""The two orders of concepts-mtil; no set has the same place in both."""


@dataclass(frozen=True, config=STRICT)
class Concepts:
    """The embedded stream: small data sets, each with its own labels."""

    kind: Literal["concepts"] = "concepts"
    sets: Annotated[tuple[str, ...], key("data sets to learn, in order")] = SEQUENCE
    order: Annotated[
        Order,
        key("null: as sets; I or II of concepts-mtil, cyclic-K, or a list", since_records=False),
    ] = None
    train_images: Annotated[
        int | None,
        key("training images of each learnt set; null: 800, or 500", since_records=False, ge=50),
    ] = None

    def __post_init__(self) -> None:
        _ = self.learnt

    @property
    def learnt(self) -> tuple[str, ...]:
        """Data sets in the order of learning."""
        return ordered(self.sets, self.order, CONCEPTS_MTIL)


@dataclass(frozen=True, config=STRICT)
class Sequence:
    """Data sets one after the other."""

    kind: Literal["sequence"]
    sets: Annotated[
        tuple[str, ...],
        key("torchvision's, or npz:FILE, folder:FOLDER, lists:FOLDER/NAME"),
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
    validation_seed: Annotated[int, key("seed of the held-out split", ge=0)] = 0
    shots: Shots = None
    shots_seed: ShotsSeed = 0
    shots_list: ShotsList = None
    download: Annotated[bool, key("true lets torchvision download missing data")] = False
    on_corrupt: Annotated[
        Literal["raise", "drop"], key("stop at a broken image, or skip it and note it")
    ] = "raise"
    order: Annotated[
        Order, key("null: as sets; cyclic-K, or a list of the sets", since_records=False)
    ] = None

    def __post_init__(self) -> None:
        check_shots(self.shots, self.shots_seed, self.shots_list)
        _ = self.learnt

    @property
    def learnt(self) -> tuple[str, ...]:
        """Data sets in the order of learning."""
        return ordered(self.sets, self.order)


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


AnyStream = Concepts | Sequence | ImageNetR | Mtil | XTail
"""The kinds of streams; the key ``kind`` names one."""
KINDS: tuple[str, ...] = tuple(
    get_args(get_type_hints(kind)["kind"])[0] for kind in get_args(AnyStream)
)
