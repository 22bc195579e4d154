"""The commands that come after runs: what was forgotten, and the tuned model."""

from __future__ import annotations

from collections.abc import Sequence

from avalanche_proxyfda._files import expanded
from benchmarks.config import plain
from benchmarks.execution.job import Job
from benchmarks.execution.stopping import typed
from benchmarks.methods.combined import force_of
from benchmarks.results.places import places_outside
from benchmarks.results.record import Record
from benchmarks.results.scores import score

_ROUNDING = 1e-9
_MOST_NAMED = 2


def next_steps(jobs: Sequence[Job], records: Sequence[Record]) -> list[str]:
    """Lines with the commands ``features`` and ``export`` of one finished run; none without one.

    Args:
        jobs: all jobs.
        records: records of the finished ones among them.
    """
    found = _best(jobs, records)
    if found is None:
        return []
    job, why = found
    data = job.config.where.data  # a record does not hold an absolute path
    place = ["--data", data] if expanded(data).is_absolute() else []
    for name, path in places_outside(plain(job.config)).items():
        place += ["--place", f"{name}={path}"]
    return [
        f"To see what was forgotten by {job.about}{why}:",
        typed("features", "--run", job.file, *place),
        "To take its tuned model home:",
        typed("export", job.file, *place),
    ]


def _best(jobs: Sequence[Job], records: Sequence[Record]) -> tuple[Job, str] | None:
    """The job that validation data choose, and the reason; without such data the last job.

    In a tie the method that comes first wins, and within a method the weaker strength. The
    reason names other runs of the tie.
    """
    by_run = {record.run_id: record for record in records if record.status == "finished"}
    ended = [job for job in jobs if job.config.identity in by_run]
    if len(ended) < 2:
        return (ended[0], "") if ended else None
    scores = {job.file: score(by_run[job.config.identity]) for job in ended}
    measured = [job for job in _weakest_first(ended) if scores[job.file] is not None]
    if not measured:
        return ended[-1], " (the last run)"
    best, *others = _ties(measured, [scores[job.file] or 0.0 for job in measured])
    if not others:
        return best, " (best on validation)"
    return best, f" (best on validation, tied with {_named(others)})"


def _named(jobs: Sequence[Job]) -> str:
    """Return the first jobs by name, and the number of the others; a name may hold commas."""
    names = [job.about for job in jobs]
    if len(names) > _MOST_NAMED + 1:  # "1 more" would be no shorter than a name
        names[_MOST_NAMED:] = [f"and {len(names) - _MOST_NAMED} more"]
    return "; ".join(names)


def _ties(jobs: Sequence[Job], scores: Sequence[float]) -> list[Job]:
    """Return the jobs whose scores equal the highest one, up to rounding."""
    highest = max(scores)
    return [job for job, x in zip(jobs, scores, strict=True) if highest - x < _ROUNDING]


def _weakest_first(jobs: Sequence[Job]) -> list[Job]:
    order = list(dict.fromkeys(job.config.methods_name for job in jobs))

    def place(job: Job) -> tuple[int, tuple[float, ...]]:
        config = job.config
        force = force_of(config.method, config.strength, config.companions)
        return order.index(config.methods_name), force

    return sorted(jobs, key=place)
