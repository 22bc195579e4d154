"""Advice on a choice of strengths: how far the validation data of the runs support it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.methods.registry import METHODS
from benchmarks.results.record import Record
from benchmarks.results.scores import outcome_of
from benchmarks.results.settings import Row

_ROUNDING = 1e-9
_FROZEN = "frozen"


def advice(rows: Sequence[Row]) -> list[str]:
    """Return sentences on the runs; none where nothing speaks against a choice.

    They say that training changed nothing, that ``frozen`` is ahead of all other rows, that
    strengths cannot be told apart, and that the best strength is at the edge of those tried.

    Args:
        rows: rows of one comparison; rows without a finished run do not count.
    """
    whole = [row for row in rows if row.finished]
    return [*_beside_frozen(whole), *(line for path in _paths(whole) for line in _of_path(path))]


def validation_image(record: Record) -> float | None:
    """Return the largest change of a validation accuracy that one image makes, in [0, 1].

    The accuracy is the mean over the stream or over the panel. The result is None for a run
    without validation data.
    """
    stream = record.stream
    if stream is None or stream.validation is None:
        return None
    shares = [_share(stream.validation, stream.weighted_by == "image")]
    if record.panel:
        shares.append(_share([data.validation for data in record.panel.values()], False))
    return max(shares)


def _share(counts: Sequence[int], by_image: bool) -> float:
    return 1 / sum(counts) if by_image else 1 / (len(counts) * min(counts))


def _beside_frozen(rows: Sequence[Row]) -> Iterator[str]:
    frozen = [row for row in rows if row.method == _FROZEN]
    others = [row for row in rows if row.method != _FROZEN]
    if not frozen or not others:
        return
    own = frozen[0].mean("score")
    image = validation_image(frozen[0].finished[0])
    if own is None or image is None:
        return
    after = _learnt(frozen[0])
    if all(abs(_learnt(row) - after) < image for row in others):
        yield (
            "Training changed little: right after learning, every row is within one validation "
            "image of frozen. Raise train.lr or train.epochs before you compare methods."
        )
        return
    scores = [score for row in others if (score := row.mean("score")) is not None]
    if scores and own >= max(scores):
        yield (
            "frozen, which trains the heads alone, has the best validation score: here no row "
            "learnt enough to pay for what it lost."
        )


def _learnt(row: Row) -> float:
    """Return the validation accuracy right after learning, the mean over experiences and seeds."""
    values = [outcome_of(record).validation_learnt or () for record in row.finished]
    return statistics.fmean(value for each in values for value in each)


def _paths(rows: Iterable[Row]) -> list[list[Row]]:
    """Return rows that differ in the strength alone, the weakest first; two strengths at least."""
    paths: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if isinstance(row.strength, float) and row.mean("score") is not None:
            rest = (f"{key}={value}" for key, value in row.leaves.items() if key != "strength")
            same = (text for text in rest if not text.startswith(("where.", "seed=")))
            paths.setdefault((row.method, *sorted(same)), []).append(row)
    return [
        sorted(path, key=_force, reverse=METHODS[str(path[0].config["method"])].weakens)
        for path in paths.values()
        if len(path) > 1
    ]


def _force(row: Row) -> float:
    assert isinstance(row.strength, float)
    return row.strength


def _of_path(path: Sequence[Row]) -> Iterator[str]:
    """Sentences on the strengths of one method, given with the weakest first."""
    name = path[0].method
    scores = [row.mean("score") or 0.0 for row in path]
    best = max(scores)
    image = validation_image(path[0].finished[0])
    assert image is not None  # there is a score
    within = image / len(path[0].finished)
    near = [row for row, score in zip(path, scores, strict=True) if score > best - within]
    if best - min(scores) < _ROUNDING:
        yield (
            f"{name}: all strengths have equal validation scores, so validation data choose none. "
            "Train longer, or raise train.lr."
        )
        return
    if len(near) > 1:
        strengths = ", ".join(row.strength_text for row in near)
        yield (
            f"{name}: the validation scores of {strengths} differ by less than one image "
            f"({100 * within:.1f} points), so take the weakest of them, {near[0].strength_text}."
        )
    if near[0] in (path[0], path[-1]):
        side = "weakest" if near[0] is path[0] else "strongest"
        yield (
            f"{name}: {near[0].strength_text} is the {side} strength tried. A "
            f"{'weaker' if side == 'weakest' else 'stronger'} one may be better: add it to "
            "--strengths; finished runs are kept."
        )
