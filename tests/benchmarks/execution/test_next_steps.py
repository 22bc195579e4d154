"""Which run the next commands name, and why."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.config import plain
from benchmarks.execution.job import Job
from benchmarks.execution.next_steps import next_steps
from benchmarks.reproduce.from_record import config_of
from benchmarks.reproduce.here import add_places, here_of
from benchmarks.results.places import hidden
from tests.benchmarks import miniature
from tests.benchmarks.records import finished, recipe

FT = ("finetune", None)
FDA = ("fda", 1.0)
LP = ("lp-ft", None)
WISE = ("wise-ft", 0.5)
MANY = tuple((run, 0.7) for run in (FT, FDA, LP, WISE, ("ldifs", 100.0), ("l2sp", 0.1)))
TIE = " (best on validation, tied with "


def steps(tmp_path: Path, *runs: tuple[tuple[str, float | None], Any]) -> tuple[list[str], Any]:
    configs = [recipe(m, **({} if x is None else {"strength": x})) for (m, x), _ in runs]
    jobs = [Job(config, tmp_path) for config in configs]
    records = [
        finished(config, validation=validation and (validation, 0.0))
        for config, (_, validation) in zip(configs, runs, strict=True)
        if validation != 0
    ]
    return next_steps(jobs, records), jobs


@pytest.mark.parametrize(
    ("runs", "named", "why"),
    [
        (((FT, 0.8), (FDA, 0.7)), 0, " (best on validation):"),
        (((FT, 0.7), (FDA, 0.8)), 1, " (best on validation):"),
        (((FT, 0.7), (FDA, 0.7)), 0, " (best on validation, tied with {1}):"),
        (((FT, 0.1 + 0.2), (FDA, 0.3), (LP, 0.2)), 0, " (best on validation, tied with {1}):"),
        (((FT, 0.7), (FDA, 0.7), (LP, 0.7)), 0, " (best on validation, tied with {1}; {2}):"),
        (((("fda", 2.0), 0.7), (FDA, 0.7)), 1, " (best on validation, tied with {0}):"),
        (((FT, 0.7), (FDA, 0.7), (LP, 0.7), (WISE, 0.7)), 0, f"{TIE}{{1}}; {{2}}; {{3}}):"),
        (MANY, 0, f"{TIE}{{1}}; {{2}}; and 3 more):"),
        (((FT, None), (FDA, None)), 1, " (the last run):"),
        (((FT, 0.7), (FDA, 0)), 0, ":"),  # the other run failed
    ],
)
def test_the_best_run_on_validation_is_named(
    tmp_path: Path, runs: tuple[Any, ...], named: int, why: str
) -> None:
    lines, jobs = steps(tmp_path, *runs)
    job = jobs[named]
    reason = why.format(*(each.about for each in jobs))
    assert lines[0] == f"To see what was forgotten by {job.about}{reason}"
    assert f" -m benchmarks features --run {job.file}" in lines[1]
    assert f" -m benchmarks export {job.file}" in lines[3]


def test_without_a_finished_run_there_is_no_next_step(tmp_path: Path) -> None:
    assert steps(tmp_path, (FT, 0))[0] == []


def test_the_weaker_companion_is_named_in_a_tie(tmp_path: Path) -> None:
    configs = [
        replace(recipe("soft-fda", strength=1.0), companions={"ldifs": x}) for x in (1000.0, 300.0)
    ]
    jobs = [Job(config, tmp_path) for config in configs]
    lines = next_steps(jobs, [finished(config) for config in configs])
    why = f"best on validation, tied with {jobs[0].about}"
    assert lines[0] == f"To see what was forgotten by {jobs[1].about} ({why}):"


@pytest.mark.parametrize("data", ["my data", None])
def test_the_commands_say_where_the_sets_outside_the_data_are(
    tmp_path: Path, data: str | None
) -> None:
    sets = [f"folder:{tmp_path}/{name}" for name in ("my pets", "my data/birds", "it's/my pets")]
    config = miniature.config(
        tmp_path / data if data else Path("data"),
        method="lp-ft",
        stream={"kind": "sequence", "sets": sets[:1]},
        panel={"sets": sets[1:]},
    )
    (tmp_path / "my data/birds").mkdir(parents=True)
    job, record = Job(config, tmp_path), finished(config)
    record = replace(record, how=replace(record.how, config=hidden(plain(config))))
    for line in next_steps([job], [record])[1::2]:
        words = shlex.split(line)
        parser = argparse.ArgumentParser()
        add_places(parser)
        args = parser.parse_args(words[words.index("--data" if data else "--place") :])
        birds = [] if data else [f"birds={tmp_path}/my data/birds"]
        pets = [f"my pets={tmp_path}/it's/my pets", f"2/my pets={tmp_path}/my pets"]
        assert args.place == [*birds, *pets]
        again = plain(config_of(record, here_of(args)))
        assert again["stream"]["sets"] == sets[:1]
        assert again["panel"]["sets"] == ["folder:birds" if data else sets[1], sets[2]]
