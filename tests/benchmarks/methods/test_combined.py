"""Runs that combine methods: names, refusals, plugins, identity and the board's rows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avalanche_proxyfda.plugins import LDIFSPlugin, PKTPlugin, SoftFDAPlugin
from benchmarks.board.looks import class_of, look_of
from benchmarks.board.page import page
from benchmarks.board.text import markdown, rows_csv, runs_csv
from benchmarks.config import Config, complaint, plain, read
from benchmarks.execution.job import Job
from benchmarks.methods.plugins import plugins_of
from benchmarks.methods.registry import METHODS
from benchmarks.results.files import read_record, write_record
from benchmarks.results.settings import rows_of
from tests.benchmarks.board.board_records import board, run_of
from tests.benchmarks.records import recipe


def combined(strength: float | str = 3.0, seed: int = 0, **companions: float | str) -> Config:
    content = {"method": "soft-fda", "strength": strength, "seed": seed, "companions": companions}
    return read({**plain(recipe("soft-fda", strength=3.0)), **content})


def test_a_companion_is_a_plugin_of_its_own() -> None:
    soft, ldifs, pkt = plugins_of(combined(pkt="auto", ldifs=300))
    assert isinstance(soft, SoftFDAPlugin) and soft.weight == 3
    assert isinstance(ldifs, LDIFSPlugin) and ldifs.weight == 300
    assert isinstance(pkt, PKTPlugin) and pkt.weight == "auto"
    initial = plugins_of(replace(combined(ldifs=300), reference="initial"))
    assert [plugin.choice for plugin in initial] == ["initial", "initial"]
    balanced = plugins_of(combined(fda=1))
    assert balanced[0]._batches is not None and balanced[1]._batches is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"method": "finetune", "companions": {"ldifs": 1}}, r"set method=ldifs and leave out"),
        ({"companions": {"soft-fda": 1}}, r"companions.soft-fda: it is the run's method"),
        ({"companions": {"ldif": 1}}, r"companions.ldif: .*did you mean 'ldifs'"),
        ({"companions": {"ldifs": -1}}, r"companions.ldifs=-1.0 must be finite and not negative"),
        ({"companions": {"ldifs": "much"}}, r"companions.ldifs.* a valid number, or auto"),
    ],
    ids=str,
)
def test_companions_that_no_run_can_have_are_refused(content: dict[str, Any], problem: str) -> None:
    from pydantic import ValidationError

    whole = {"method": "soft-fda", "strength": 3.0, **content}
    if whole["method"] == "finetune":
        del whole["strength"]
    with pytest.raises(ValidationError) as raised:
        read(whole)
    assert re.search(problem, complaint(raised.value)), complaint(raised.value)


@pytest.mark.parametrize("name", ["l2sp", "zscl", "wise-ft"])
def test_a_companion_needs_a_term_on_the_features_of_training_batches(name: str) -> None:
    with pytest.raises(ValueError, match=rf"companions.{name}: .* these have one: ldifs, "):
        plugins_of(combined(**{name: 1}))


def test_identity_and_file_name_hold_the_companions() -> None:
    alone, one, two = combined(), combined(ldifs=300), combined(ldifs=1000)
    assert len({alone.identity, one.identity, two.identity}) == 3
    assert alone.identity == recipe("soft-fda", strength=3.0).identity
    assert one.label == f"soft-fda-3+ldifs-300-seed0-{one.identity[:8]}"
    assert one.about == "soft-fda, weight = 3, ldifs = 300"
    assert one.methods_name == "soft-fda + ldifs"
    assert read(plain(one)).identity == one.identity


def test_a_combination_is_a_method_of_its_own_on_the_board(tmp_path: Path) -> None:
    records = [
        record
        for seed in range(2)
        for record in (
            run_of(combined(seed=seed), 0.66, -0.03),
            run_of(combined(seed=seed, ldifs=300), 0.7, -0.01),
            run_of(combined(seed=seed, ldifs=1000), 0.66, -0.03),
        )
    ]
    rows = rows_of(records)
    assert [(row.method, row.strength_text, row.chosen) for row in rows] == [
        ("soft-fda", "3", True),
        ("soft-fda + ldifs", "3 + 300", True),
        ("soft-fda + ldifs", "3 + 1000", False),
    ]
    drawn = board(records, tmp_path)
    (comparison,) = drawn.comparisons
    assert not any(entry.marks for entry in comparison.entries)
    for text in (rows_csv(drawn), runs_csv(drawn), markdown(drawn), page(drawn)):
        assert "soft-fda + ldifs" in text and "3 + 300" in text and "3 + 1000" in text
    look = look_of("soft-fda + ldifs")
    assert look == (METHODS["soft-fda"].colour, METHODS["ldifs"].marker)
    assert class_of("soft-fda + ldifs") == "own m-soft-fda"


def test_a_raised_version_of_a_companion_makes_a_run_stale(tmp_path: Path) -> None:
    config = combined(ldifs=300)
    record, job = run_of(config, 0.66, -0.03), Job(config, tmp_path)
    write_record(job.file, record)
    assert read_record(job.file) == record and job.state() == "finished"
    versions = {"ldifs": METHODS["ldifs"].version + 1}
    code = replace(record.how.code, companion_versions=versions)
    write_record(job.file, replace(record, how=replace(record.how, code=code)))
    assert job.state() == "stale"
    stored = read_record(job.file)
    (entry,) = board([stored], tmp_path).comparisons[0].entries
    assert "stale" in [mark.word for mark in entry.marks]
    (about,) = [mark.about for mark in entry.marks if mark.word == "stale"]
    assert f"version {versions['ldifs']} of ldifs, which is version" in about
