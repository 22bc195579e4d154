"""``python -m benchmarks JOB``; the jobs are the keys of :data:`COMMANDS`."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import NamedTuple

from benchmarks._printing import print_every_character
from benchmarks._quiet import quiet
from benchmarks.execution.stopping import status_of, stopped, terminable
from benchmarks.experiment.ranks import refuse_ranks


class Command(NamedTuple):
    """A job of the command line.

    Attributes:
        module: its ``add_options`` declares the options, its ``main`` does the job.
        about: one line for ``--help``.
        help_format: how ``--help`` of the job is laid out.
    """

    module: str
    about: str
    help_format: type[argparse.HelpFormatter] = argparse.HelpFormatter


COMMANDS = {
    "demo": Command(
        "benchmarks.commands.demo",
        "run several methods at several strengths on drawn images, and write a page",
        argparse.ArgumentDefaultsHelpFormatter,
    ),
    "run": Command(
        "benchmarks.commands.run", "train the methods of a recipe, and write a record of each run"
    ),
    "sweep": Command(
        "benchmarks.commands.sweep",
        "train a matrix of streams, methods, seeds and strengths; go on where it stopped",
    ),
    "board": Command("benchmarks.commands.board", "draw records as tables, figures and one page"),
    "published": Command(
        "benchmarks.commands.published", "write figures that papers report as one page; run nothing"
    ),
    "rerun": Command("benchmarks.commands.rerun", "run a record again, and compare every number"),
    "features": Command(
        "benchmarks.commands.features",
        "show what a run forgot: the features of a data set before and after it",
    ),
    "export": Command(
        "benchmarks.commands.export",
        "write the tuned model of a run as two files, which load_tuned reads",
    ),
    "perf": Command(
        "benchmarks.commands.perf",
        "measure what methods cost: step times, memory, operations, scaling, the cache",
    ),
    "accept": Command(
        "benchmarks.commands.accept", "check what works on the accelerator of this machine"
    ),
}


RESUMABLE = ("accept", "demo", "run", "sweep")
"""Jobs that go on from their checkpoints when the same command is given again."""


def make_parser(jobs: Iterable[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """The command line.

    Args:
        jobs: jobs whose modules are imported, and whose options are declared; the others are
            only listed.
    """
    declared = set(jobs)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run benchmarks.")
    choices = parser.add_subparsers(dest="job", required=True)
    for name, command in COMMANDS.items():
        job = choices.add_parser(
            name,
            help=command.about,
            description=command.about,
            formatter_class=command.help_format,
        )
        if name in declared:
            module = import_module(command.module)
            module.add_options(job)
            job.set_defaults(work=module.main, refuse=job.error)
    return parser


def unknown(word: str) -> str:
    """Says that ``word`` is no job, and names the nearest job."""
    near = difflib.get_close_matches(word, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{word!r} is unknown; {hint}choose one of {', '.join(COMMANDS)}"


def main() -> int:
    """Dispatch to a job.

    Returns:
        Exit status of the job; 2 if what was asked for is refused, and that of SIGPIPE if
        nobody reads the output any more.
    """
    quiet()
    print_every_character()
    words = [word for word in sys.argv[1:] if not word.startswith("-")][:1]
    parser = make_parser(words)
    if words and words[0] not in COMMANDS:
        parser.error(unknown(words[0]))
    args, surplus = parser.parse_known_args()
    if surplus:  # with the usage of the job, and not that of all jobs
        args.refuse(f"unrecognized arguments: {' '.join(surplus)}")
    try:
        if args.job != "run":
            refuse_ranks(args.job)
        with terminable():
            status = int(args.work(args))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as error:
        goes_on = args.job in RESUMABLE
        print(f"\n{stopped(args.resume) if goes_on else 'Stopped.'}", flush=True)
        return status_of(error)
    except BrokenPipeError:  # the reader of the output is gone, as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # 128 + SIGPIPE, as a shell has it
    except (ValueError, OSError, ImportError) as error:  # refused, in one line
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
