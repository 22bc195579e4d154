"""Several records of one run: confirmations of one seed, or a conflict."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.results.files import collect, write_record
from benchmarks.results.record import Cpu, Record, Selection
from tests.benchmarks.records import failed, finished, recipe

CPU = Cpu("maker", 25, 1, 1, ("avx2",), "AVX2", "mkl", True, {})


def of_version(record: Record, version: int, **companions: int) -> Record:
    code = replace(record.how.code, method_version=version, companion_versions=companions)
    return replace(record, how=replace(record.how, code=code))


def run_on(cpu: Cpu | None, last: float = 0.8, seed: int = 3, seconds: float = 60.0) -> Record:
    """A run on a processor, with the accuracy of the last experience at the end."""
    made = finished(
        recipe("fda", strength=1.0, seed=seed), ((None, None), (0.9, None), (0.7, last))
    )
    assert made.cost is not None
    how = replace(made.how, machine=replace(made.how.machine, cpu=cpu))
    return replace(made, how=how, cost=replace(made.cost, seconds=seconds))


def written(folder: Path, records: Sequence[Record], names: str) -> Path:
    for name, record in zip(names, records, strict=True):
        write_record(folder / f"{name}.json", record)
    return folder


def test_two_machines_confirm_one_seed(tmp_path: Path) -> None:
    """One image of 400 moved on another processor: 0.49 and 0.4925."""
    records = [run_on(CPU, 0.49), run_on(replace(CPU, torch_capability="DEFAULT"), 0.4925)]
    found = collect([written(tmp_path / "one", records, "ab")])
    assert len(found.records) == 1 and not found.refused
    (agreeing,) = found.confirmations.values()
    assert list(found.confirmations) == [found.records[0].run_id] == [records[0].run_id]
    assert agreeing[0] == found.records[0]
    assert {r.how.machine.cpu.torch_capability for r in agreeing if r.how.machine.cpu} == {
        "AVX2",
        "DEFAULT",
    }
    swapped = collect([written(tmp_path / "two", records, "ba")])
    assert swapped == found  # names of files do not choose


def test_the_machine_of_most_runs_is_used(tmp_path: Path) -> None:
    """Costs stay comparable, and the published record stays when somebody confirms it."""
    other = replace(CPU, model=2)
    for most, one in ((CPU, other), (other, CPU)):
        records = [run_on(most, seed=3), run_on(one, seed=3), run_on(most, seed=4)]
        folder = tmp_path / str(most.model)
        found = collect([written(folder, records, "abc")])
        assert [r.how.machine.cpu for r in found.records] == [most, most]


def test_a_copy_confirms_nothing_and_a_second_run_does(tmp_path: Path) -> None:
    folder = written(tmp_path, [run_on(CPU)], "a")
    shutil.copy(folder / "a.json", folder / "copy.json")
    found = collect([folder])
    assert len(found.records) == 1 and not found.confirmations
    write_record(folder / "b.json", run_on(CPU, seconds=99.0))
    write_record(folder / "c.json", failed(recipe("fda", strength=1.0, seed=3)))
    found = collect([folder])
    assert [r.status for r in found.records] == ["finished"] and not found.refused
    assert [len(each) for each in found.confirmations.values()] == [2]
    shutil.move(folder / "a.json", folder / "zzz.json")
    assert collect([folder]) == found


@pytest.mark.parametrize("last", [0.8125, 0.7])
def test_beyond_the_tolerance_it_is_a_conflict(tmp_path: Path, last: float) -> None:
    records = [run_on(CPU), run_on(replace(CPU, model=2), last), run_on(CPU, seed=4)]
    found = collect([written(tmp_path, records, "abc")])
    assert [r.config["seed"] for r in found.records] == [4] and not found.confirmations
    assert list(found.refused) == ["a.json", "b.json"]
    reason = found.refused["a.json"]
    assert "has another outcome in b.json, beyond the tolerance" in reason
    assert f"outcome.accuracy[2][1] is 0.8 and {last:g}" in reason
    write_record(tmp_path / "d.json", run_on(CPU, 0.8, seconds=1.0))
    assert "in a.json, b.json" in collect([tmp_path]).refused["d.json"]


def test_only_the_newest_version_of_the_method_is_compared(tmp_path: Path) -> None:
    """The numbers of an older version differ for a reason, so they are no conflict."""
    old, new = of_version(run_on(CPU, 0.6), 1), of_version(run_on(CPU, 0.8), 2)
    found = collect([written(tmp_path, [old, new], "ab")])
    assert found.records == (new,) and not found.confirmations
    assert found.refused == {
        "a.json": f"run {new.run_id[:8]} has a newer version of the method in b.json, and only "
        "the newest version counts"
    }
    again = of_version(run_on(replace(CPU, model=2), 0.8), 2)
    write_record(tmp_path / "c.json", again)
    write_record(tmp_path / "d.json", of_version(run_on(CPU, 0.8, seconds=1.0), 1))
    found = collect([tmp_path])
    assert [len(each) for each in found.confirmations.values()] == [2]  # no older record confirms
    assert list(found.refused) == ["a.json", "d.json"]
    write_record(tmp_path / "e.json", of_version(run_on(CPU, 0.7), 2))
    found = collect([tmp_path])
    assert not found.records and list(found.refused) == [f"{name}.json" for name in "abcde"]
    assert "b.json has" not in found.refused["e.json"]
    assert "has another outcome in b.json, c.json, beyond the" in found.refused["e.json"]


def test_the_newest_version_of_a_companion_counts_too(tmp_path: Path) -> None:
    made = finished(recipe("fda", strength=1.0, companions__ldifs=300.0))
    other = finished(recipe("fda", strength=1.0, companions__ldifs=300.0), ((None,), (0.5,)))
    old, new = of_version(other, 1, ldifs=1), of_version(made, 1, ldifs=2)
    found = collect([written(tmp_path, [old, new], "ab")])
    assert found.records == (new,) and list(found.refused) == ["a.json"]


def test_copies_that_differ_in_the_selection_confirm_nothing(tmp_path: Path) -> None:
    """A command with more settings wrote the selection of the one copy anew."""
    made = replace(run_on(CPU), selection=Selection("given", 1))
    wider = replace(made, selection=Selection("validation", 3))
    found = collect([written(tmp_path, [wider, made], "ab")])
    assert found.records == (wider,) and not found.confirmations and not found.refused
    assert collect([written(tmp_path, [made, wider], "ab")]) == found
