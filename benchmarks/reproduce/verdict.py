"""How much of a data set was forgotten, in words, and why this data set is shown."""

from __future__ import annotations

from benchmarks.results.record import Record

LITTLE_LOST = 0.8
"""Least mean share of kept neighbours at which little was forgotten."""


def verdict(record: Record, name: str, kept: float) -> str:
    """Return a line on the forgetting of a data set: its neighbours, and its test accuracy.

    Args:
        record: record of the tuned model, of a finished run.
        name: name of the data set.
        kept: mean share of the neighbours that remain, in [0, 1].
    """
    learnt, first, last = _accuracies(record, name)
    detail = "no accuracy was measured"
    if first is not None and last is not None:
        moments = ("right after learning", "at the end") if learnt else ("before", "after tuning")
        what = "test accuracy" if learnt else "linear probe"
        detail = f"{what} {100 * first:.1f} % {moments[0]}, {100 * last:.1f} % {moments[1]}"
    little = kept >= LITTLE_LOST and not _fell(first, last)
    start = "Little was forgotten" if little else "Forgetting"
    return f"{start}: {100 * kept:.0f} % of neighbours kept; {detail}."


def why_chosen(record: Record, name: str) -> str:
    """Return a line on the reason for which the command chose a data set of its own accord.

    Args:
        record: record of a finished run.
        name: the chosen data set, see :func:`benchmarks.reproduce.recorded.chosen_set`.
    """
    learnt, first, last = _accuracies(record, name)
    if not learnt:
        reason = "it lost the most neighbours of the panel"
    elif _fell(first, last):
        reason = "its accuracy fell the most"
    else:
        reason = "no set lost accuracy, and its change is the least favourable"
    return f"{name} is shown: {reason}; --set NAME shows another set."


def _fell(first: float | None, last: float | None) -> bool:
    """Return True if an accuracy fell by as much as a line shows, a tenth of a percent."""
    return first is not None and last is not None and round(100 * last, 1) < round(100 * first, 1)


def _accuracies(record: Record, name: str) -> tuple[bool, float | None, float | None]:
    """True for an experience, and its accuracies after learning and at the end.

    A data set of the panel has those of its linear probe before and after tuning.
    """
    assert record.stream is not None
    assert record.outcome is not None
    panel = record.outcome.panel
    if name in (record.panel or {}):
        first, last = (m.linear_probe["test"].get(name) for m in (panel[0], panel[-1]))
        return False, first, last
    place, matrix = record.stream.experiences.index(name), record.outcome.accuracy
    return True, matrix[place + 1][place], matrix[-1][place]
