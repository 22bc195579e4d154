"""Errors of runs, as text that can travel between processes."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from avalanche_proxyfda._accelerator import lacks_memory
from avalanche_proxyfda.streams.files.images import UnreadableImage
from benchmarks._printing import print_every_character
from benchmarks.execution.job import Job
from benchmarks.results.record import Record

Work = Callable[[Job, int], Record]
"""Makes one job's record; the second argument is the number of runs at a time."""


class RunFailedError(Exception):
    """An error that a run raised, as text.

    Args:
        reason: kind and message.
        trace: the traceback; empty where the reason says all.
    """

    def __init__(self, reason: str, trace: str) -> None:
        super().__init__(reason, trace)
        self.reason, self.trace = reason, trace

    def __str__(self) -> str:
        return self.reason


def attempt(work: Work, job: Job, parallel: int) -> Record:
    """Call ``work``; its errors become :class:`RunFailedError`, which every process can read.

    Args:
        work: makes the record.
        job: the run.
        parallel: runs at a time on the machine.

    Raises:
        RunFailedError: for any exception of the run.
    """
    print_every_character()  # the process may be a worker
    try:
        return work(job, parallel)
    except UnreadableImage as error:  # a fault of the data: a traceback would hide the file
        failed = RunFailedError(_of_image(error), "")
    except Exception as error:
        remedy = remedy_of(error)
        trace = "".join(traceback.format_exception(error))
        failed = RunFailedError(f"{reason_of(error)}{remedy}", f"{trace}{remedy.strip(' ;')}")
    # raised here, it has no context: the frames of the run, which hold its model, are gone
    raise failed


def remedy_of(error: BaseException) -> str:
    """Return the keys that help against an error of memory, behind a semicolon; else ``""``."""
    said = str(error).lower()
    if lacks_memory(error):
        return (
            "; the device has too little memory: lower train.batch, or keep the batch with "
            "train.accumulate or train.precision=bf16; lower train.eval_batch if an evaluation or "
            "the panel failed; use fewer --jobs. A run with another key of train begins anew"
        )
    loading = "shared memory" in said and "pixel_dir" not in said  # rows name their own remedy
    if loading or "bus error" in said:
        return (
            "; loader processes hand over batches in shared memory, of which there is too little: "
            "set train.workers=0, or start the container with --shm-size=8g or --ipc=host"
        )
    return ""


def _of_image(error: UnreadableImage) -> str:
    """The file of a broken image and the remedies, also for an error of a loader's process."""
    *_, line = str(error).strip().splitlines()
    line = line.rpartition(f"{UnreadableImage.__name__}: ")[2]
    return (
        f"{UnreadableImage.__name__}: {line}; remove or replace the file, or leave broken images "
        "out with stream.on_corrupt=drop (--on-corrupt drop)"
    )


def reason_of(error: BaseException) -> str:
    """Kind and message of an error in one line of plain text."""
    if isinstance(error, RunFailedError):
        return error.reason
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text.encode("utf-8", "backslashreplace").decode()[:2000]
