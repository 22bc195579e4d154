"""Which jobs run again, where records go, and how many run at a time: known without torch."""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Policy:
    """Which jobs of an earlier time run again.

    Attributes:
        resume: keep finished records whose method still has their version, and go on from the
            checkpoints of killed runs; otherwise every job begins anew.
        retry_failed: run failed jobs again, and those whose file is no valid record.
    """

    resume: bool = True
    retry_failed: bool = True

    def is_due(self, state: str) -> bool:
        """True if a job in ``state`` (:meth:`~benchmarks.execution.job.Job.state`) runs."""
        if not self.resume or state in ("absent", "stale"):
            return True
        return state != "finished" and self.retry_failed


def add_policy(parser: argparse.ArgumentParser, retry_failed: bool) -> None:
    """Declare ``--resume`` and ``--retry-failed``, which demo, run and sweep share.

    Args:
        parser: parser of the command.
        retry_failed: default of ``--retry-failed``.
    """
    yes_or_no = argparse.BooleanOptionalAction
    parser.add_argument(
        "--resume",
        action=yes_or_no,
        default=True,
        help="keep finished runs and resume killed ones (the default), or begin anew",
    )
    parser.add_argument(
        "--retry-failed",
        action=yes_or_no,
        default=retry_failed,
        help="run failed runs again, and those whose file is no valid record; default: "
        + ("yes" if retry_failed else "no"),
    )


def policy_of(args: argparse.Namespace) -> Policy:
    """The policy that the options of :func:`add_policy` say."""
    return Policy(args.resume, args.retry_failed)


def check_parallel(count: int) -> int:
    """Return ``count``, the value of ``--jobs``.

    Raises:
        ValueError: for less than one run at a time.
    """
    if count < 1:
        raise ValueError(f"--jobs {count}: at least one")
    return count


def check_folder(out: Path) -> None:
    """Try to write to ``out``, the folder of ``--out``, now and not after the first run.

    Raises:
        OSError: when nothing can be written there; the message names the option.
    """
    try:
        _try(out)
    except OSError as error:
        raise type(error)(
            f"--out {out}: nothing can be written to this folder ({_reason(out, error)}); give a "
            "folder that can be made or written with --out DIR"
        ) from error


def check_file(out: Path) -> None:
    """Try to write to the folder of ``out``, the file of ``--out``, now.

    Raises:
        OSError: when the file cannot be written; the message names the option.
    """
    try:
        _try(out.parent)
    except OSError as error:
        raise type(error)(_no_file(out, _reason(out.parent, error))) from error
    if out.is_dir():
        raise IsADirectoryError(_no_file(out, "it is a folder"))


def _no_file(out: Path, why: str) -> str:
    return (
        f"--out {out}: this file cannot be written ({why}); give a file in a folder that can be "
        "made or written with --out FILE"
    )


def _try(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _reason(folder: Path, error: OSError) -> str:
    """Return why nothing can be written to ``folder``."""
    for place in (folder, *folder.parents):
        if os.path.isdir(place):  # without an error for a place that may not be read
            return f"{place}: {error.strerror}"
        if os.path.exists(place):
            return f"{place} is a file"
    return str(error.strerror)
