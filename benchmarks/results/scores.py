"""Scores of a finished record: every scalar of a table, each by a named function."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Literal

from benchmarks.results import matrix
from benchmarks.results import transfer as of_whole
from benchmarks.results.matrix import mean_change, weighted_mean
from benchmarks.results.record import Outcome, Record, Stream

Split = Literal["validation", "test"]


def outcome_of(record: Record) -> Outcome:
    """Return the outcome of a finished run.

    Raises:
        ValueError: for a failed run.
    """
    if record.outcome is None:
        raise ValueError(f"run {record.run_id[:8]} failed, and has no scores: {record.reason}")
    return record.outcome


def _stream(record: Record) -> Stream:
    outcome_of(record)
    assert record.stream is not None  # a finished record is whole
    return record.stream


def _weights(record: Record, counts: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return counts if _stream(record).weighted_by == "image" else None


def last(record: Record) -> float:
    """Return the test accuracy after the last experience, in [0, 1]."""
    return matrix.last(outcome_of(record).accuracy, _weights(record, _stream(record).test))


def avg(record: Record) -> float:
    """Return the mean over t of the test accuracy after experience t on experiences 1 to t."""
    return matrix.avg(outcome_of(record).accuracy, _weights(record, _stream(record).test))


def learnt(record: Record) -> float:
    """Return the test accuracy right after learning, the mean over experiences."""
    return matrix.learnt(outcome_of(record).accuracy)


def forgetting_first(record: Record) -> float:
    """Return the accuracy right after learning minus at the end, by Avalanche's formula."""
    return matrix.forgetting_first(outcome_of(record).accuracy)


def forgetting_best(record: Record) -> float:
    """Return the best accuracy minus that at the end, by PILOT's and Mammoth's formula."""
    return matrix.forgetting_best(outcome_of(record).accuracy)


def forgetting_coda(record: Record) -> float:
    """Return the mean drop of accuracy in one step, by CODA-Prompt's formula."""
    return matrix.forgetting_coda(outcome_of(record).accuracy)


def bwt(record: Record) -> float:
    """Return the backward transfer, which is minus :func:`forgetting_first`."""
    return matrix.bwt(outcome_of(record).accuracy)


def transfer(record: Record) -> float | None:
    """Return MTIL's Transfer, the accuracy on data sets still to come.

    This score, and those of :data:`OPTIONAL`, weight data sets equally in every record, and are
    None where the matrix lacks entries above its diagonal.
    """
    return of_whole.transfer(outcome_of(record).accuracy)


def delta_transfer(record: Record) -> float | None:
    """Return :func:`transfer` minus the same of the model before training."""
    return of_whole.delta_transfer(outcome_of(record).accuracy)


def mtil_avg(record: Record) -> float | None:
    """Return MTIL's Avg, the mean of the whole matrix."""
    return of_whole.mtil_avg(outcome_of(record).accuracy)


def snd_forgetting(record: Record) -> float | None:
    """Return SND's catastrophic forgetting, from the best accuracy before the end to the end."""
    return of_whole.snd_forgetting(outcome_of(record).accuracy)


def snd_degradation(record: Record) -> float | None:
    """Return SND's zero-shot degradation, from the accuracy before training to the worst later."""
    return of_whole.snd_degradation(outcome_of(record).accuracy)


def delta_lp(record: Record, split: Split = "test") -> float | None:
    """Return the mean change of the panel's linear-probe accuracy; None without a panel."""
    moments = outcome_of(record).panel
    if not moments:
        return None
    return mean_change(moments[0].linear_probe[split], moments[-1].linear_probe[split])


def delta_zs(record: Record, split: Split = "test") -> float | None:
    """Return the mean change of the panel's zero-shot accuracy; None without panel or texts."""
    moments = outcome_of(record).panel
    first, end = (moments[k].zero_shot if moments else None for k in (0, -1))
    if first is None or end is None:
        return None
    return mean_change(first[split], end[split])


def neighbors_kept(record: Record) -> float | None:
    """Return the share of nearest neighbours that are still neighbours, mean over the panel.

    The result is None if no set of the panel has this measure.
    """
    moments = outcome_of(record).panel
    shares = [values.get("neighbors") for values in moments[-1].drift.values()] if moments else []
    known = [share for share in shares if share is not None]
    return statistics.fmean(known) if known else None


def validation_accuracy(record: Record) -> float | None:
    """Return :func:`last` of the validation splits; None without them."""
    values, counts = outcome_of(record).validation_last, _stream(record).validation
    return None if values is None else weighted_mean(values, _weights(record, counts))


def validation_delta_lp(record: Record) -> float | None:
    """Return :func:`delta_lp` of the validation splits."""
    return delta_lp(record, "validation")


def score(record: Record) -> float | None:
    """Return validation accuracy + validation Δ_LP, which chooses settings; None without them."""
    learning = validation_accuracy(record)
    return None if learning is None else learning + (validation_delta_lp(record) or 0.0)


def seconds_per_step(record: Record) -> float:
    """Return the median seconds of a training step."""
    assert record.cost is not None
    return record.cost.seconds_per_step


def peak_memory(record: Record) -> float:
    """Return the peak memory in bytes: the GPU's if there is one, else the process's."""
    assert record.cost is not None
    return record.cost.peak_gpu_bytes or record.cost.peak_rss_bytes


SCORES: dict[str, Callable[[Record], float | None]] = {
    "last": last,
    "avg": avg,
    "forgetting_first": forgetting_first,
    "forgetting_best": forgetting_best,
    "forgetting_coda": forgetting_coda,
    "bwt": bwt,
    "delta_lp": delta_lp,
    "delta_zs": delta_zs,
    "neighbors_kept": neighbors_kept,
    "validation_accuracy": validation_accuracy,
    "validation_delta_lp": validation_delta_lp,
    "score": score,
    "seconds_per_step": seconds_per_step,
    "peak_memory": peak_memory,
    "transfer": transfer,
    "delta_transfer": delta_transfer,
    "mtil_avg": mtil_avg,
    "snd_forgetting": snd_forgetting,
    "snd_degradation": snd_degradation,
}
OPTIONAL = frozenset(of_whole.WHOLE)
"""Scores that the CSV files of a board leave out if no run of the board has them."""


def scores_of(record: Record) -> dict[str, float | None]:
    """Return every score of :data:`SCORES` by name; a score that the run lacks is None.

    Raises:
        ValueError: for a failed run.
    """
    return {name: formula(record) for name, formula in SCORES.items()}
