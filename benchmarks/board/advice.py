"""Advice on a choice of strengths: how far the validation data of the runs support it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import pairwise

from benchmarks.methods.combined import parts_of
from benchmarks.methods.registry import strength_text
from benchmarks.results.record import Record
from benchmarks.results.scores import outcome_of
from benchmarks.results.settings import Row, means_on_shared_seeds, shared_seeds, usual_identity

_ROUNDING = 1e-9
_FROZEN = "frozen"


def advice(rows: Sequence[Row]) -> list[str]:
    """Return sentences on the runs; none where nothing speaks against a choice.

    They say that training changed nothing, that no row is ahead of ``frozen``, that
    strengths cannot be told apart, and that the best strength is at the edge of those tried,
    unless no strength can be told apart from another. A
    sentence compares rows on the seeds that all of them have, and on the same images, as the
    choice of a setting does; without such a seed there is no sentence.

    Args:
        rows: rows of one comparison; rows without a validation score do not count.
    """
    usual = usual_identity(rows)
    whole = [row for row in rows if row.scores("score") and row.identities == {usual}]
    return [
        *_beside_frozen(whole),
        *(line for group in _groups(whole) for line in _of_group(group)),
    ]


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
    compared = [frozen[0], *others]
    seeds = shared_seeds(compared)
    image = validation_image(frozen[0].finished[0])
    if not seeds or image is None:
        return
    own, *scores = means_on_shared_seeds(compared).values()
    after = _learnt(frozen[0], seeds)
    if all(abs(_learnt(row, seeds) - after) < image for row in others):
        yield (
            "Training changed little: right after learning, every row is within one validation "
            "image of frozen. Raise train.lr or train.epochs before you compare methods."
        )
        return
    highest = max(scores)
    if own - highest >= _ROUNDING:
        yield (
            "frozen, which trains the heads alone, has the best validation score: here no row "
            "learnt enough to pay for what it lost."
        )
    elif highest - own < _ROUNDING:
        pairs = zip(others, scores, strict=True)
        equal = [row.label for row, score in pairs if own - score < _ROUNDING]
        same = f"{equal[0]} has" if len(equal) == 1 else f"{len(equal)} rows have"
        yield (
            "No row has a better validation score than frozen, which trains the heads alone, and "
            f"{same} the same score: here training more than the heads gained nothing."
        )


def _learnt(row: Row, seeds: Set[int]) -> float:
    """Return the validation accuracy right after learning, the mean over experiences and seeds."""
    runs = [record for record in row.finished if record.config["seed"] in seeds]
    values = [outcome_of(record).validation_learnt or () for record in runs]
    return statistics.fmean(value for each in values for value in each)


def _groups(rows: Iterable[Row]) -> list[list[Row]]:
    """Return rows that differ in strengths alone, two at least, the weakest first.

    A strength of ``"auto"`` is no number of a grid. Rows with one of their own are left out, and
    the rows with that of a companion are a group of their own.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if isinstance(row.strength, float):
            rest = (f"{key}={value}" for key, value in row.leaves.items())
            same = (text for text in rest if not text.startswith(("where.", "seed=")))
            found = (name for name, x in sorted(row.companions.items()) if isinstance(x, str))
            groups.setdefault((row.method, *found, *sorted(same)), []).append(row)
    return [sorted(same, key=lambda row: row.force) for same in groups.values() if len(same) > 1]


def _of_group(group: Sequence[Row]) -> Iterator[str]:
    """Sentences on the strengths of one method, or of one combination."""
    name, seeds = group[0].method, shared_seeds(group)
    means = means_on_shared_seeds(group)
    image = validation_image(group[0].finished[0])
    if not means or image is None:
        return
    best, within = max(means.values()), image / len(seeds)
    near = [row for row in group if means[row] > best - within]
    if best - min(means.values()) < _ROUNDING:
        yield (
            f"{name}: all strengths have equal validation scores, so validation data choose none. "
            "Train longer, or raise train.lr."
        )
        return
    weakest = near[0]
    if any(a > b for row in near for a, b in zip(weakest.force, row.force, strict=True)):
        return  # no row is the weakest in all strengths
    strengths = ", ".join(row.strength_text for row in near)
    if len(near) == len(group):
        yield (
            f"{name}: the validation scores of {strengths} differ by less than one image "
            f"({100 * within:.1f} points), so these validation data cannot choose a strength. Keep "
            f"the weakest, {weakest.strength_text}. More validation images, more seeds or longer "
            "training may tell the strengths apart."
        )
        return  # a strength beyond the edge would be no better known
    if len(near) > 1:
        yield (
            f"{name}: the validation scores of {strengths} differ by less than one image "
            f"({100 * within:.1f} points), so take the weakest of them, {weakest.strength_text}."
        )
    yield from _edges(group, weakest)


def _edges(group: Sequence[Row], best: Row) -> Iterator[str]:
    """Sentences on each strength of the best row that lies at the edge of those tried.

    Where the strengths of a combination rise together, they are one path. Else a strength is at
    the edge if no row has one beyond it, and a row differs from the best row in it alone.
    """
    varied = [k for k in range(len(best.force)) if len({row.force[k] for row in group}) > 1]
    steps = list(pairwise(group))
    if len(varied) > 1 and all(a.force[k] < b.force[k] for a, b in steps for k in varied):
        if best in (group[0], group[-1]):
            side, beyond = _side(best is group[0])
            yield (
                f"{best.method}: {best.strength_text} are the {side} strengths tried. {beyond} "
                "ones may be better: change all of them together, with --strengths and "
                f"{_settings(best, varied)}; finished runs are kept."
            )
        return
    for k in varied:
        line = [row for row in group if _others(row, k) == _others(best, k)]
        forces = [row.force[k] for row in group]
        if len(line) < 2 or best.force[k] not in (min(forces), max(forces)):
            continue
        side, beyond = _side(best.force[k] == min(forces))
        how = "add it to --strengths" if k == 0 else f"run it with {_settings(best, [k])}"
        yield (
            f"{best.method}: {_named(best, k, side)}. A {beyond.lower()} one may be better: {how}; "
            "finished runs are kept."
        )


def _side(weakest: bool) -> tuple[str, str]:
    return ("weakest", "Weaker") if weakest else ("strongest", "Stronger")


def _others(row: Row, knob: int) -> tuple[float, ...]:
    return row.force[:knob] + row.force[knob + 1 :]


def _named(row: Row, knob: int, side: str) -> str:
    """Return the words that one strength of a row is at a side of those tried."""
    if not row.companions:
        return f"{row.strength_text} is the {side} strength tried"
    names = (parts_of(row.method)[0], *sorted(row.companions))
    given = [row.strength, *(row.companions[name] for name in sorted(row.companions))][knob]
    assert given is not None
    return (
        f"in {row.strength_text}, the strength {strength_text(given)} of {names[knob]} is the "
        f"{side} tried"
    )


def _settings(row: Row, knobs: Sequence[int]) -> str:
    """Return the options of the command line that set companions."""
    names = sorted(row.companions)
    return " ".join(f"--set companions.{names[k - 1]}=…" for k in knobs if k > 0)
