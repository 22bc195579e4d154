"""The parts of a published table: paper, protocol, metrics, figures, and where it belongs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid")
Text = Annotated[str, Field(pattern=r"^\S")]
Count = Annotated[int, Field(strict=True, ge=1)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


@dataclass(frozen=True, config=STRICT)
class Paper:
    """The paper of a table."""

    authors: Text
    year: Count
    title: Text
    venue: Text
    arxiv: Annotated[str, Field(pattern=r"^\d{4}\.\d{4,5}(v\d+)?$")]

    @property
    def short(self) -> str:
        """Authors and year."""
        return f"{self.authors} ({self.year})"

    @property
    def link(self) -> str:
        """Address of the paper."""
        return f"https://arxiv.org/abs/{self.arxiv}"


@dataclass(frozen=True, config=STRICT)
class Protocol:
    """How the paper made the figures; None: not stated, or not recorded."""

    data: Text
    epochs: Text | None = None
    optimizer: Text | None = None
    heads: Text | None = None
    seeds: Text | None = None


@dataclass(frozen=True, config=STRICT)
class Metric:
    """A kind of figure.

    Attributes:
        title: title, as in the paper.
        unit: unit; empty for a number without one.
        better: direction of a better figure.
        about: definition.
        digits: least number of printed digits after the point.
        reference: value that a change is measured from; None: the figure is no change.
    """

    title: Text
    unit: Literal["%", "points", ""]
    better: Literal["more", "less"]
    about: Text
    digits: Annotated[int, Field(strict=True, ge=0)] = 2
    reference: Text | None = None

    def __post_init__(self) -> None:
        if "Δ" in self.title and self.reference is None:
            raise ValueError(f"title={self.title!r} is a change: reference must name since when")


@dataclass(frozen=True, config=STRICT)
class SequenceMatch:
    """A stream of kind ``sequence``: data sets by name, in order."""

    kind: Literal["sequence"]
    sets: Annotated[tuple[Text, ...], Field(min_length=1)]


@dataclass(frozen=True, config=STRICT)
class ImageNetRMatch:
    """A stream of kind ``imagenet-r``: a split, its counts, and the number of experiences."""

    kind: Literal["imagenet-r"]
    num_experiences: Count
    splits: Annotated[tuple[Text, ...], Field(min_length=1)]
    train: Count
    test: Count


@dataclass(frozen=True, config=STRICT)
class MtilMatch:
    """A stream of kind ``mtil`` without a choice of few shots, and both towers trained."""

    kind: Literal["mtil"]
    order: Literal["I", "II"]
    splits: Literal["zscl", "coop"]


AnyMatch = SequenceMatch | ImageNetRMatch | MtilMatch


@dataclass(frozen=True, config=STRICT)
class Match:
    """The streams and backbones of the benchmarks that have the protocol of a table.

    Attributes:
        backbones: names of backbones, as in configurations.
        streams: streams by the name that rows of the table give them.
        about: a choice that the paper leaves to the reader.
    """

    backbones: Annotated[tuple[Text, ...], Field(min_length=1)]
    streams: dict[Text, Annotated[AnyMatch, Field(discriminator="kind")]]
    about: Text | None = None


@dataclass(frozen=True, config=STRICT)
class Figure:
    """A printed number, and what stands behind its ±."""

    value: Number
    spread: Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)] | None = None


def _figure(content: Any) -> Any:
    """Return a mapping in place of a bare number."""
    return {"value": content} if isinstance(content, (int, float)) else content


Figures = dict[Text, dict[Text, Annotated[Figure, BeforeValidator(_figure)]]]
"""Figures by the paper's name of a method, then by metric."""


@dataclass(frozen=True, config=STRICT)
class PublishedRow:
    """Figures of one data set or setting; ``stream`` is a key of the table's match."""

    name: Text
    figures: Figures
    stream: Text | None = None


@dataclass(frozen=True, config=STRICT)
class PublishedMean:
    """A row that the paper gives as the mean of the rows called ``over``."""

    name: Text
    over: Annotated[tuple[Text, ...], Field(min_length=2)]
    figures: Figures


@dataclass(frozen=True, config=STRICT)
class Discrepancy:
    """A printed figure that other printed figures do not give; ``stream`` as in the row."""

    row: Text
    method: Text
    metric: Text
    printed: Number
    recomputed: Number
    about: Text
    stream: Text | None = None
