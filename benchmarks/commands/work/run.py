"""Runs the jobs of ``python -m benchmarks run``, or says what would be run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from avalanche_proxyfda._yaml import write_yaml
from avalanche_proxyfda.streams.files.labelled import SPLITS
from benchmarks.board.advice import advice
from benchmarks.board.per_set import per_set
from benchmarks.board.table import table
from benchmarks.board.unseen import unseen_markdown
from benchmarks.config import Config, plain
from benchmarks.execution.executor import Executor
from benchmarks.execution.fitted import fitted
from benchmarks.execution.job import Job
from benchmarks.execution.launcher import launch
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.next_steps import next_steps
from benchmarks.execution.own_images import check_images
from benchmarks.execution.plan import (
    caught_notices,
    checked_steps,
    print_notices,
    printed_notices,
)
from benchmarks.execution.policy import Policy, check_folder, policy_of
from benchmarks.execution.stopping import typed
from benchmarks.execution.torchrun import TorchrunExecutor, first_on_machine, joined
from benchmarks.experiment.ranks import is_main, launched
from benchmarks.results.settings import rows_of
from benchmarks.streams.registry import load_stream, scan_images
from benchmarks.streams.views import Views


def run_jobs(args: argparse.Namespace, planned: Sequence[Job]) -> int:
    """Run the jobs, or say what would be run.

    Args:
        args: options of the command.
        planned: jobs, as the configurations say them.

    Returns:
        0 if every run finished.

    Raises:
        FileNotFoundError, ImportError, ConnectionError, ValueError: when a run cannot be built.
        OSError: when nothing can be written to the folder of the records.
    """
    executor: Executor = LocalExecutor(args.jobs, 1 if args.jobs > 1 else None)
    jobs = fitted(planned)
    if launched():
        executor = TorchrunExecutor()
    with joined([job.config for job in jobs], args.jobs):
        if args.data is not None and is_main():
            check_images(jobs[0].config)
        if args.dry_run:
            with _data_first(jobs[0].config):
                jobs, summary = first_on_machine(lambda: _checked(jobs, args.data is not None))
            _show(jobs, summary)
            return 0
        jobs, summary = first_on_machine(lambda: _checked(jobs, args.data is not None))
        return _launched(jobs, summary, executor, policy_of(args), args.data is not None)


def scan_stream(planned: Sequence[Job]) -> int:
    """List the images of the first job that cannot be read; 1 if there are any.

    Args:
        planned: jobs, as the configurations say them.

    Raises:
        FileNotFoundError, ValueError: if data are missing or refused, or a plugin refuses its
            strength or its options.
    """
    (job, *_) = fitted(planned)
    with printed_notices():
        count, broken = scan_images(job.config)
    for place, reason in broken.items():
        print(f"{place}: {reason}")
    print(f"{count} images read, {len(broken)} of them broken.")
    if broken:
        print("Leave them out with --on-corrupt drop, which the record notes.")
    return int(bool(broken))


@contextmanager
def _data_first(config: Config) -> Iterator[None]:
    """Print the images of each set before the block, which needs the weights of the backbone.

    Raises:
        FileNotFoundError, ImportError, ConnectionError, ValueError: when data are missing or
            refused, before the block.
    """
    notices: list[str] = []
    try:
        with caught_notices(notices):
            views = Views(_as_it_is, _as_it_is)  # the backbone's are not known yet
            summary = first_on_machine(lambda: load_stream(config, views).summary)
        for about in summary.get("sets", ()):
            parts = ", ".join(f"{about[part]} {part}" for part in SPLITS)
            print(f"# {about['name']}: {about['classes']} classes; images: {parts}", flush=True)
        yield
    except Exception:
        print_notices(notices)  # the plan, which prints them otherwise, is not reached
        raise


def _as_it_is(image: Any) -> Any:
    return image


def _checked(jobs: Sequence[Job], own: bool) -> tuple[list[Job], dict[str, Any]]:
    """The jobs with their steps; for own data, a missing network is answered with a small model."""
    try:
        return checked_steps(jobs)
    except ConnectionError as error:
        if not own:
            raise
        raise ConnectionError(
            f"{error}; to try without a network, use the small model of this repository: "
            "--set backbone.name=tiny-clip train.lr=3e-4"
        ) from error


def _launched(
    jobs: Sequence[Job], summary: dict[str, Any], executor: Executor, policy: Policy, own: bool
) -> int:
    """Launch the jobs, and print their table; for own data, a table of the data sets too."""
    out = jobs[0].folder
    if is_main():
        check_folder(out)
    if summary.get("split") == "hash80":
        print("The split is hash80, our own: figures are comparable with the same split only.")
    end = launch(jobs, out, executor, policy)
    if end.records:
        rows = rows_of(end.records)
        print(table(rows))
        if own:
            print(per_set(rows))
        unseen = unseen_markdown([(row.label, row) for row in rows], escaped=False)
        if unseen:
            print("\n".join(["", *unseen]))
        hints = advice(rows)
        if hints:
            print("\n".join(["", *hints]))
        print(f"\nEach run's record is in {out}/. To draw them as one page:\n{typed('board', out)}")
        for line in next_steps(jobs, end.records):
            print(line)
    return end.status


def _show(jobs: Sequence[Job], summary: dict[str, Any]) -> None:
    """Print the resolved configurations and the stream, as YAML.

    Keys that all runs share are printed once, before the runs.
    """
    trees = [plain(job.config) for job in jobs]
    shared = _in_common(trees) if len(jobs) > 1 else {}
    if shared:
        print(f"---\n# the same in all {len(jobs)} runs")
        print(_yaml(shared))
    for job, tree in zip(jobs, trees, strict=True):
        print("---")
        print(_yaml({"run": job.config.label, "steps": job.steps, **_beyond(tree, shared)}))
    print("---")
    content = {"stream_summary": summary}
    print(write_yaml(content, sort_keys=False, allow_unicode=True, default_flow_style=None))


def _yaml(content: dict[str, Any]) -> str:
    return write_yaml(content, sort_keys=False, allow_unicode=True).strip()


def _in_common(trees: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the keys whose values are equal in all trees, at every depth."""
    common: dict[str, Any] = {}
    for key, value in trees[0].items():
        values = [tree[key] for tree in trees if key in tree]
        if len(values) == len(trees) and all(each == value for each in values):
            common[key] = value
        elif len(values) == len(trees) and all(isinstance(each, dict) for each in values):
            below = _in_common(values)
            if below:
                common[key] = below
    return common


def _beyond(tree: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a tree that are not shared."""
    own: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in shared:
            own[key] = value
        elif shared[key] != value:
            own[key] = _beyond(value, shared[key])
    return own
