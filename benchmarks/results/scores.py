"""Every scalar of a table, derived from a finished record by a named function."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Literal

from benchmarks.results import matrix
from benchmarks.results.matrix import mean_change, weighted_mean
from benchmarks.results.record import Outcome, Record, Stream

Split = Literal["validation", "test"]


def outcome_of(record: Record) -> Outcome:
    """What came out.

    Raises:
        ValueError: of a failed run.
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
    """Test accuracy after the last experience, in [0, 1]."""
    return matrix.last(outcome_of(record).accuracy, _weights(record, _stream(record).test))


def avg(record: Record) -> float:
    """Mean over t of the test accuracy, after experience t, on the experiences learnt so far."""
    return matrix.avg(outcome_of(record).accuracy, _weights(record, _stream(record).test))


def forgetting_first(record: Record) -> float:
    """Accuracy right after learning minus at the end: Avalanche's."""
    return matrix.forgetting_first(outcome_of(record).accuracy)


def forgetting_best(record: Record) -> float:
    """Best accuracy minus that at the end: PILOT's and Mammoth's."""
    return matrix.forgetting_best(outcome_of(record).accuracy)


def forgetting_coda(record: Record) -> float:
    """Mean drop in one step: CODA-Prompt's."""
    return matrix.forgetting_coda(outcome_of(record).accuracy)


def bwt(record: Record) -> float:
    """Backward transfer: minus :func:`forgetting_first`."""
    return matrix.bwt(outcome_of(record).accuracy)


def delta_lp(record: Record, split: Split = "test") -> float | None:
    """Mean change of the panel's linear-probe accuracy; None without a panel."""
    moments = outcome_of(record).panel
    if not moments:
        return None
    return mean_change(moments[0].linear_probe[split], moments[-1].linear_probe[split])


def delta_zs(record: Record, split: Split = "test") -> float | None:
    """Mean change of the panel's zero-shot accuracy; None without a panel or texts."""
    moments = outcome_of(record).panel
    first, end = (moments[k].zero_shot if moments else None for k in (0, -1))
    if first is None or end is None:
        return None
    return mean_change(first[split], end[split])


def neighbors_kept(record: Record) -> float | None:
    """Mean over the panel of the share of nearest neighbours that are neighbours still."""
    moments = outcome_of(record).panel
    found = [values.get("neighbors") for values in moments[-1].drift.values()] if moments else []
    known = [value for value in found if value is not None]
    return statistics.fmean(known) if known else None


def validation_accuracy(record: Record) -> float | None:
    """As :func:`last`, on the validation splits; None without them."""
    values, counts = outcome_of(record).validation_last, _stream(record).validation
    return None if values is None else weighted_mean(values, _weights(record, counts))


def validation_delta_lp(record: Record) -> float | None:
    """As :func:`delta_lp`, on the validation splits."""
    return delta_lp(record, "validation")


def score(record: Record) -> float | None:
    """What settings are chosen by: validation accuracy + validation Δ_LP; None without them."""
    learning = validation_accuracy(record)
    return None if learning is None else learning + (validation_delta_lp(record) or 0.0)


def seconds_per_step(record: Record) -> float:
    """Median seconds of a training step."""
    assert record.cost is not None
    return record.cost.seconds_per_step


def peak_memory(record: Record) -> float:
    """Bytes: of the GPU if there is one, else of the process."""
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
}


def scores_of(record: Record) -> dict[str, float | None]:
    """Every score of :data:`SCORES` by name, None where the run does not have it.

    Raises:
        ValueError: for a failed run.
    """
    return {name: formula(record) for name, formula in SCORES.items()}
