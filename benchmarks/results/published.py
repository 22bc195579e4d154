"""A table of a paper, as typed data: this project ran none of its figures."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from benchmarks.methods import registry
from benchmarks.results.published_parts import (
    STRICT,
    Discrepancy,
    Figure,
    Figures,
    Match,
    Metric,
    Paper,
    Protocol,
    PublishedMean,
    PublishedRow,
    Text,
)


@dataclass(frozen=True, config=STRICT)
class PublishedTable:
    """A table of a paper.

    Attributes:
        paper: the paper.
        table: place in the paper, such as ``"Table 1"``.
        about: content of the table, in one sentence.
        protocol: how the figures were made.
        metrics: metrics by key.
        methods: method of the registry by the paper's name of it; None: a rival that is not run
            here.
        rows: figures, in the order of the paper.
        backbone: pre-trained model; None if ``not_stated`` or ``not_recorded`` lists it.
        not_stated: what the paper leaves out.
        not_recorded: what the paper has or may have, and these data have not.
        means: rows that are means of other rows.
        discrepancies: printed figures that other printed figures do not give.
        match: streams and backbones of the benchmarks; None: no stream has this protocol.
    """

    paper: Paper
    table: Text
    about: Text
    protocol: Protocol
    metrics: Annotated[dict[Text, Metric], Field(min_length=1)]
    methods: Annotated[dict[Text, Text | None], Field(min_length=1)]
    rows: Annotated[tuple[PublishedRow, ...], Field(min_length=1)]
    backbone: Text | None = None
    not_stated: tuple[Text, ...] = ()
    not_recorded: tuple[Text, ...] = ()
    means: tuple[PublishedMean, ...] = ()
    discrepancies: tuple[Discrepancy, ...] = ()
    match: Match | None = None

    def __post_init__(self) -> None:
        for said, method in self.methods.items():
            _check_method(said, method)
        for place, figures in self._figures():
            for method, by_metric in figures.items():
                _known(method, self.methods, f"{place}: method")
                for metric in by_metric:
                    _known(metric, self.metrics, f"{place}, {method}: metric")
        self._check_used()
        self._check_rows()
        self._check_discrepancies()
        absent = sum("backbone" in names for names in (self.not_stated, self.not_recorded))
        if absent != (self.backbone is None):
            raise ValueError(
                f"backbone={self.backbone!r}: give it, or list 'backbone' in one of not_stated "
                "and not_recorded"
            )
        for key in ("epochs", "optimizer", "heads", "seeds"):
            if getattr(self.protocol, key) is not None and key in self.not_stated:
                raise ValueError(f"not_stated: {key!r} is given in protocol; remove one of the two")

    def _figures(self) -> Iterator[tuple[str, Figures]]:
        yield from ((f"rows: {row.name}", row.figures) for row in self.rows)
        yield from ((f"means: {mean.name}", mean.figures) for mean in self.means)

    def _check_used(self) -> None:
        by_method = [(said, by) for _, figures in self._figures() for said, by in figures.items()]
        for key, declared, used in (
            ("methods", self.methods, {said for said, by in by_method if by}),
            ("metrics", self.metrics, {metric for _, by in by_method for metric in by}),
        ):
            idle = next((name for name in declared if name not in used), None)
            if idle is not None:
                raise ValueError(f"{key}.{idle} has no figure; remove it")

    def _check_rows(self) -> None:
        names = [row.name for row in self.rows]
        places = [(row.stream, row.name) for row in self.rows]
        twice = next((place for place in places if places.count(place) > 1), None)
        if twice is not None:
            raise ValueError(f"rows: {twice[1]!r} is there twice; rename or remove one")
        for mean in self.means:
            for name in mean.over:
                if names.count(name) != 1:
                    raise ValueError(f"means: {mean.name}: over={name!r} must be the name of a row")
        streams = () if self.match is None else self.match.streams
        used = {row.stream for row in self.rows} - {None}
        for row in self.rows:
            if row.stream is not None:
                _known(row.stream, streams, f"rows: {row.name}: stream")
        idle = next((name for name in streams if name not in used), None)
        if idle is not None:
            raise ValueError(f"match.streams: no row has stream={idle!r}; remove it")

    def _check_discrepancies(self) -> None:
        for each in self.discrepancies:
            place = f"discrepancies: {each.row}, {each.method}, {each.metric}"
            figure = self.figure(each.row, each.method, each.metric, each.stream)
            if figure is None:
                raise ValueError(f"{place} is no figure of the table")
            if figure.value != each.printed:
                raise ValueError(f"{place}: printed={each.printed} must be {figure.value}")
            if each.recomputed == each.printed:
                raise ValueError(f"{place}: recomputed={each.recomputed} agrees; remove the entry")

    def figure(
        self, row: str, method: str, metric: str, stream: str | None = None
    ) -> Figure | None:
        """Return a figure of a row or of a mean; None if the data have none.

        Args:
            row: name of the row or of the mean.
            method: the paper's name of the method.
            metric: key of the metric.
            stream: stream of the row, where several rows have one name.
        """
        parts: list[PublishedRow | PublishedMean] = [
            each for each in self.rows if each.name == row and stream in (None, each.stream)
        ]
        parts += [mean for mean in self.means if mean.name == row]
        found = (each.figures.get(method, {}).get(metric) for each in parts)
        return next(filter(None, found), None)


def _known(name: str, names: Iterable[str], place: str) -> None:
    known = list(names)
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
    raise ValueError(f"{place}={name!r} is not declared; {hint}")


def _check_method(said: str, method: str | None) -> None:
    """Refuse a method that the registry lacks, and a rival that the registry has."""
    if method is not None:
        _known(method, registry.METHODS, f"methods.{said}")
    elif said in registry.METHODS:
        raise ValueError(f"methods.{said} is a method of the registry: write {said}: {said}")
