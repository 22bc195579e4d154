"""Commands that a check starts, which leave no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress

from benchmarks.accept.check import Fault

_PATIENCE = 10  # seconds in which a command may end its own processes


def run_within(
    command: Sequence[str], folder: str, environment: Mapping[str, str], seconds: float
) -> tuple[int, str]:
    """Run a command with all its processes in a session of their own.

    Args:
        command: words of the command.
        folder: working directory.
        environment: variables of the command.
        seconds: longest duration. Then the command is asked to end, and after ten more seconds
            all its processes are killed.

    Returns:
        The exit status, and what the command wrote to stderr.

    Raises:
        Fault: after ``seconds``; the text ends with what the command wrote to stderr.
    """
    with tempfile.TemporaryFile() as sink:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdout=subprocess.DEVNULL,
            stderr=sink,
            start_new_session=True,
        )
        late = False
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            _end(process)
        sink.seek(0)
        said = sink.read().decode("utf-8", "replace")
    if late:
        raise Fault(f"no end within {seconds:g} s: {' '.join(said.split())[-400:]}")
    return process.returncode, said


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a command to end its processes, as torchrun does; kill those that are left."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
