"""The configuration of one run, typed and checked; see ``python -m benchmarks run --help``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.dataclasses import dataclass

from avalanche_proxyfda._files import expanded
from benchmarks.config.checks import (
    check_head,
    check_length,
    check_optimizer,
    check_reference,
    check_towers,
)
from benchmarks.config.complaints import complaint
from benchmarks.config.fields import STRICT, key
from benchmarks.config.numbers import MOST_SEED, check_numbers, check_seed
from benchmarks.config.parts import Backbone, Head, Panel, Reference, Train, Where
from benchmarks.config.streams import AnyStream, Concepts
from benchmarks.config.words import read_words, with_set_names
from benchmarks.methods.combined import check_companions, combined_name
from benchmarks.methods.registry import (
    METHODS,
    Strength,
    check_method,
    needed_strength,
    strength_text,
    with_strength,
)
from benchmarks.results.identity import label_of, run_id_of
from benchmarks.results.places import kind_and_place, overlapping


def _number_or_auto(value: Any, checked: ValidatorFunctionWrapHandler) -> Any:
    """Return a strength; one message for both of its types."""
    try:
        return checked(value)
    except ValidationError:
        raise ValueError("Input should be a valid number, or auto") from None


_Strength = Annotated[Strength, WrapValidator(_number_or_auto)]


@dataclass(frozen=True, config=STRICT)
class Config:
    """One run. On a CPU the same configuration gives the same numbers again.

    The values are data: :func:`benchmarks.methods.plugins.checked` says whether the method's
    plugin takes them.
    """

    method: Annotated[str, key(f"one of {', '.join(METHODS)}")] = "finetune"
    strength: Annotated[
        _Strength | None, key("λ of the method, or auto; mu of DiGraP, alpha of WiSE-FT")
    ] = None
    options: Annotated[dict[str, Any], key("further arguments of the method's plugin")] = Field(
        default_factory=dict
    )
    companions: Annotated[
        dict[str, _Strength],
        key("λ of further methods whose terms are added, as {ldifs: 300}", since_records=False),
    ] = Field(default_factory=dict)
    reference: Annotated[
        Literal["previous", "initial", "averaged"],
        key("model of the teacher or the anchor; averaged: of a teacher alone"),
    ] = "previous"
    seed: Annotated[int, key(f"seed of heads and batches, from 0 to {MOST_SEED}")] = 0
    stream: Annotated[AnyStream, Field(discriminator="kind")] = Field(default_factory=Concepts)
    backbone: Backbone = Field(default_factory=Backbone)
    head: Head = Field(default_factory=Head)
    train: Train = Field(default_factory=Train)
    panel: Panel = Field(default_factory=Panel)
    reference_data: Reference = Field(default_factory=Reference)
    where: Where = Field(default_factory=Where)

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        known = METHODS[check_method(self.method)]
        if (known.knob is None) != (self.strength is None):
            raise ValueError(
                f"strength={self.strength}: {self.method} "
                + (needed_strength(self.method) if known.knob else "has none; " + with_strength())
            )
        check_companions(self.method, self.companions)
        if self.method == "lp-ft" and self.head.kind != "probe":
            raise ValueError(f"head.kind={self.head.kind!r}: lp-ft begins with a probe")
        check_optimizer(self.train)
        check_length(self.train)
        check_head(self.head)
        check_towers(self.backbone, self.head, self.train)
        check_reference(self.reference_data)
        sets = getattr(self.stream, "sets", ())
        if hasattr(self.stream, "sets") and not sets:
            raise ValueError("stream.sets needs at least one data set")
        self._check_panel()
        if self.head.words is not None:
            self._hold_words()

    def _check_panel(self) -> None:
        """Refuse a panel set that is learnt, also under another spelling of its place.

        A folder that contains a learnt one, or lies in it, has images of it.
        """
        sets: tuple[str, ...] = getattr(self.stream, "sets", ())
        root = getattr(self.stream, "root", None)
        learnt = {self._place(name): name for name in sets}
        if root is not None:
            learnt[self._place(f"folder:{root}")] = root
        both: dict[str, str] = {}
        for name in self.panel.sets:
            place = self._place(name)
            for other, title in learnt.items():
                relation = _relation(place, other)
                if relation is not None:
                    both.setdefault(name, "" if name == title else f"{name} {relation} {title}")
        if both:
            same = ", ".join(filter(None, both.values()))
            raise ValueError(
                f"{sorted(both)} cannot be learnt and be on the panel at once"
                + (f" ({same})" if same else "")
                + ": remove them from stream.sets or from panel.sets"
            )

    def _place(self, name: str) -> str | Path:
        """Return the name of a data set, or the resolved place of its files: a Path of images."""
        kind, place = kind_and_place(name)
        if not kind:
            return name
        try:
            resolved = os.path.normcase(os.path.realpath(self.at(place)))
        except ValueError:  # the home folder of a user that this machine does not know
            resolved = place
        return resolved if kind == "npz:" else Path(resolved)

    def _hold_words(self) -> None:
        """Put the content of the file ``head.words`` in its place: it is part of the identity."""
        given = self.head.words
        words = read_words(self.at(given)) if isinstance(given, str) else given
        assert words is not None
        head = replace(self.head, words=with_set_names(words, plain(self)))
        object.__setattr__(self, "head", head)

    @property
    def identity(self) -> str:
        """SHA-256 of the configuration as canonical JSON, without ``where``."""
        return run_id_of(plain(self))

    @property
    def label(self) -> str:
        """A file name for the run."""
        return label_of(plain(self), self.identity)

    @property
    def about(self) -> str:
        """Methods and strengths, for people."""
        knob = METHODS[self.method].knob
        if knob is None or self.strength is None:
            return self.method
        added = (f"{name} = {strength_text(self.companions[name])}" for name in self.companions)
        return ", ".join([f"{self.method}, {knob} = {strength_text(self.strength)}", *added])

    @property
    def methods_name(self) -> str:
        """Name of the method, or of the combination of methods."""
        return combined_name(self.method, self.companions)

    @property
    def trains_tower(self) -> bool:
        """False if the image tower stays as it is, by method, tower or ``train.lr`` = 0."""
        trained = self.backbone.train.image == "full" and self.train.lr > 0
        return METHODS[self.method].trains_tower and trained

    @property
    def trains_text(self) -> bool:
        """True if the text tower is trained."""
        return METHODS[self.method].trains_tower and self.backbone.train.text == "full"

    def at(self, name: str) -> Path:
        """Return a path of the configuration; a relative path lies in ``where.data``."""
        return expanded(self.where.data) / expanded(name)


def _relation(place: str | Path, learnt: str | Path) -> str | None:
    """Return how a data set shares images with a learnt one; None if it does not by its place."""
    if place == learnt:
        return "is"
    if isinstance(place, Path) and isinstance(learnt, Path) and overlapping(place, learnt):
        return "contains" if place in learnt.parents else "lies in"
    return None


def _with_numbers(content: Any) -> Any:
    return check_numbers(content, Config)


_ADAPTER: TypeAdapter[Config] = TypeAdapter(Annotated[Config, BeforeValidator(_with_numbers)])


def plain(config: Config) -> dict[str, Any]:
    """Return the configuration as JSON's types."""
    content: dict[str, Any] = _ADAPTER.dump_python(config, mode="json")
    return content


def read(content: dict[str, Any]) -> Config:
    """Return the configuration of a result of :func:`plain`.

    Raises:
        pydantic.ValidationError: if a key is unknown or a value does not fit.
    """
    return _ADAPTER.validate_python(content)


def changed(config: Config, **changes: Any) -> Config:
    """Return ``config`` with other values of some fields.

    Raises:
        ValueError: for values that do not fit; the message is one line.
    """
    try:
        return replace(config, **changes)
    except ValidationError as error:
        raise ValueError(complaint(error)) from None
