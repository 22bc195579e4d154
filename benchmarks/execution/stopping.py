"""The end of a command by Ctrl-C or SIGTERM, and the command that comes next."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from benchmarks.experiment.ranks import launched

INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit statuses after Ctrl-C and after SIGTERM."""


class TerminatedError(KeyboardInterrupt):
    """SIGTERM came; handled as Ctrl-C is."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does; under torchrun, SIGTERM ends the process."""
    if launched() or threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def status_of(error: BaseException) -> int:
    """Exit status after an interrupt.

    Args:
        error: the interrupt; or the SystemExit by which a training ends after SIGTERM.

    Raises:
        SystemExit: if ``error`` is an exit of another kind.
    """
    if isinstance(error, SystemExit) and error.code != 128 + signal.SIGTERM:
        raise error
    by_terminal = isinstance(error, KeyboardInterrupt) and not isinstance(error, TerminatedError)
    return INTERRUPTED[0 if by_terminal else 1]


def stopped(resume: bool) -> str:
    """Says how the runs go on.

    Args:
        resume: False if the command had ``--no-resume``, and would begin anew.
    """
    command = "the same command" + ("" if resume else " without --no-resume")
    return f"Stopped. What is finished is written; {command} goes on from there."


def typed(*words: object) -> str:
    """A command of the benchmarks as it can be typed: quoted, with the Python that runs now."""
    python, here = "python", Path(sys.executable)
    found = shutil.which("python")
    if found is None or Path(os.path.abspath(found)).parent != here.parent:
        inside = here.is_relative_to(Path.cwd())
        python = str(here.relative_to(Path.cwd()) if inside else here)
    return shlex.join([python, "-m", "benchmarks", *map(str, words)])
