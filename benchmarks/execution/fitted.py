"""The last check of planned jobs: plugins take their options, and the device their precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.execution.job import Job, same_run
from benchmarks.experiment.numerics import resolved
from benchmarks.methods.plugins import checked


def fitted(jobs: Sequence[Job]) -> list[Job]:
    """Jobs as they run: with a precision in place of ``train.precision=auto``.

    Args:
        jobs: jobs that were planned from configurations alone.

    Raises:
        ValueError: when a plugin refuses its strength or its options, torch does not know a
            device, or two jobs are the same run on their device.
    """
    found: dict[Path, Job] = {}
    for planned in jobs:
        job = replace(planned, config=resolved(checked(planned.config, planned.source)))
        if job.file in found:
            raise ValueError(same_run(found[job.file], job))
        found[job.file] = job
    return list(found.values())
