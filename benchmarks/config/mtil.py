"""Keys of MTIL and X-TAIL: the data sets, their order, and the family of their splits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic.dataclasses import dataclass

from benchmarks.config.fields import STRICT, key
from benchmarks.config.orders import Order, ordered
from benchmarks.config.shots import Shots, ShotsList, ShotsSeed, check_shots

MTIL = {
    "I": (
        *("FGVCAircraft", "Caltech101", "CIFAR100", "DTD", "EuroSAT", "Flowers102", "Food101"),
        *("MNIST", "OxfordIIITPet", "StanfordCars", "SUN397"),
    ),
    "II": (
        *("StanfordCars", "Food101", "MNIST", "OxfordIIITPet", "Flowers102", "SUN397"),
        *("FGVCAircraft", "Caltech101", "DTD", "EuroSAT", "CIFAR100"),
    ),
}
"""The two orders of MTIL (Zheng et al., ICCV 2023), by torchvision's names."""
XTAIL = {name: tuple(each for each in order if each != "CIFAR100") for name, order in MTIL.items()}
"""The two orders of X-TAIL (Xu et al., NeurIPS 2024): MTIL without CIFAR-100."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class _Splits:
    """Keys that MTIL and X-TAIL share."""

    splits: Annotated[
        Literal["zscl", "coop"], key("torchvision's splits as ZSCL's code, or CoOp's lists")
    ]
    split_files: Annotated[str, key("coop: folder of the files split_zhou_*.json")] = "splits"
    validation_share: Annotated[
        float,
        key("share of train to hold out if the splits have no validation; 0: none", ge=0, le=0.5),
    ] = 0.1
    validation_seed: Annotated[int, key("seed of the held-out split", ge=0)] = 0
    shots: Shots = None
    shots_seed: ShotsSeed = 0
    shots_list: ShotsList = None
    download: Annotated[bool, key("true lets torchvision download missing data")] = False
    on_corrupt: Annotated[
        Literal["raise", "drop"], key("stop at a broken image, or skip it and note it")
    ] = "raise"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Mtil(_Splits):
    """MTIL: eleven data sets, each with its own labels, or other sets with the same splits."""

    kind: Literal["mtil"]
    sets: Annotated[tuple[str, ...], key("data sets of torchvision, or UCF101 of coop")] = MTIL["I"]
    order: Annotated[Order, key("null: as sets; I or II of MTIL, cyclic-K, or a list")] = None

    def __post_init__(self) -> None:
        check_shots(self.shots, self.shots_seed, self.shots_list)
        _ = self.learnt

    @property
    def learnt(self) -> tuple[str, ...]:
        """Data sets in the order of learning."""
        return ordered(self.sets, self.order, MTIL)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class XTail(_Splits):
    """X-TAIL: ten data sets with one label space, and no set id at test."""

    kind: Literal["xtail"]
    sets: Annotated[tuple[str, ...], key("data sets of torchvision, or UCF101 of coop")] = XTAIL[
        "I"
    ]
    order: Annotated[Order, key("null: as sets; I or II of X-TAIL, cyclic-K, or a list")] = None

    def __post_init__(self) -> None:
        check_shots(self.shots, self.shots_seed, self.shots_list)
        _ = self.learnt

    @property
    def learnt(self) -> tuple[str, ...]:
        """Data sets in the order of learning."""
        return ordered(self.sets, self.order, XTAIL)
