"""``python -m benchmarks perf WHAT``: step time, memory, operations, scaling, input, cache."""

from __future__ import annotations

import argparse

from avalanche_proxyfda._files import expanded
from benchmarks.commands import work
from benchmarks.perf import options

MEASURED = {
    "overhead": "step time of every method, relative to plain fine-tuning",
    "memory": "bytes that the losses save for backward, and their peak",
    "operations": "operations that the losses launch on an accelerator, and their peak of memory",
    "scaling": "time of the losses over B, D and K, and of steps on one rank and on several",
    "input": "images a second and core of each input pipeline, side by side",
    "cache": "the teacher's cache: hits, bytes, and step time while it fills and when it is full",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks perf``."""
    jobs = parser.add_subparsers(dest="what", required=True)
    for name, about in MEASURED.items():
        job = jobs.add_parser(name, help=about, description=about)
        job.add_argument(
            "--out", type=expanded, default=None, help="folder for a JSON report and a figure"
        )
        job.add_argument(
            "--check", action="store_true", help="exit with 1 if a value exceeds its bound"
        )
        job.add_argument("--quick", action="store_true", help="small and short, for a trial")
        options.OF[name](job)
    about = "put the tables of reports into a Markdown page"
    options.of_page(jobs.add_parser("page", help=about, description=about))


def main(args: argparse.Namespace) -> int:
    """Measure, write the report, and print the table and the summary.

    Returns:
        1 if ``--check`` is given and a value exceeds its bound, else 0.

    Raises:
        ValueError: if an option is refused, or ``--check`` has no bound to assert.
    """
    return work.make_measurement(args)
