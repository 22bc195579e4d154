"""A record's run made again, and compared."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__
from benchmarks.config import Config
from benchmarks.experiment.run import run
from benchmarks.reproduce import weights
from benchmarks.reproduce.compare import MOST_SHOWN
from benchmarks.reproduce.from_record import config_of
from benchmarks.results import scores
from benchmarks.results.files import seal, write_record
from benchmarks.results.record import Cpu, Record
from tests.benchmarks.records import failed, recipe

SHORT = {"train__epochs": 1, "stream__sets": ["digits"], "panel__sets": ["colours"]}


@pytest.fixture(scope="module")
def record() -> Record:
    return run(recipe("lp-ft", **SHORT))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(*words: object) -> int:
        monkeypatch.setattr("sys.argv", ["benchmarks", "rerun", *map(str, words)])
        return __main__.main()

    return call


def test_every_number_comes_out_again(
    record: Record, tmp_path: Path, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(tmp_path / "a.json", record)
    assert call(tmp_path / "a.json") == 0
    shown = capsys.readouterr().out
    assert "Every number of the record came out again." in shown
    assert f"in every digit: last {100 * scores.last(record):.2f}" in shown
    assert "The machine is the same." in shown or "does not hold family" in shown
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]


def test_no_model_is_kept_to_compare_numbers(
    record: Record,
    tmp_path: Path,
    call: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[bool] = []

    def again(config: Config, after_step: Any, folder: Path) -> Record:
        kept.append(config.where.keep_weights)
        return record

    monkeypatch.setattr(weights, "run", again)
    write_record(tmp_path / "a.json", record)
    assert call(tmp_path / "a.json", "--set", "where.keep_weights=false") == 0
    assert call(tmp_path / "a.json", "--set", "where.device=cpu") == 0
    assert kept == [False, False]
    assert capsys.readouterr().out.count("Every number of the record came out again.") == 2
    assert call(tmp_path / "a.json", "--set", "where.keep_weights=true") == 2
    said = capsys.readouterr().err
    assert f"leave it out, and let python -m benchmarks export {tmp_path / 'a.json'} write" in said
    assert len(kept) == 2


def test_a_temporary_folder_that_cannot_hold_the_model_is_named(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Little room is refused before the training; a folder that fills up later is named too."""
    config, tries = config_of(record), list[str]()

    def again(config: Config, after_step: Any, folder: Path) -> Record:
        tries.append(config.label)
        return record  # the model was not kept: a warning said why

    monkeypatch.setattr(weights, "run", again)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match=f"temporary folder {tmp_path} .*make room .*TMPDIR"):
        weights.weights_again(config, record, "The files hold")
    assert tries == [config.label]
    little = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: little)
    with pytest.raises(OSError, match=r"has 1 MiB left, and the model has \d+ MiB: make room"):
        weights.weights_again(config, record, "The files hold")
    assert tries == [config.label]


def edited(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit the content of a record's file, and seal it again."""
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    content["sha256"] = seal(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def on_another_processor(record: Record) -> Record:
    cpu = replace(known(record), model=99, torch_capability="DEFAULT")
    machine = replace(record.how.machine, cpu=cpu, processor="another")
    return replace(record, how=replace(record.how, machine=machine))


def known(record: Record) -> Cpu:
    """The processor of a record, with parts that this machine may not know."""
    assert record.how.machine.cpu is not None
    return replace(record.how.machine.cpu, vendor="maker", family=25, model=1, stepping=1)


def on_a_known_processor(record: Record) -> Record:
    machine = replace(record.how.machine, cpu=known(record))
    return replace(record, how=replace(record.how, machine=machine))


def moved(by: float) -> Callable[[dict[str, Any]], None]:
    """Move the accuracy on the last experience, and every term of the loss in the fifth digit."""

    def edit(content: dict[str, Any]) -> None:
        content["outcome"]["accuracy"][1][0] -= by
        content["outcome"]["loss_terms"][0]["Loss"][0] *= 1 + 1e-5

    return edit


def test_on_another_machine_the_tolerance_holds(
    record: Record,
    tmp_path: Path,
    call: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One image of 400 moved, on another processor."""
    now = on_another_processor(record)
    monkeypatch.setattr(weights, "trained_again", lambda *_: (None, now))
    write_record(tmp_path / "a.json", on_a_known_processor(record))
    edited(tmp_path / "a.json", moved(0.0025))
    assert call(tmp_path / "a.json") == 0
    shown = capsys.readouterr().out
    last, then = 100 * scores.last(record), 100 * scores.last(record) - 0.25
    assert f"last: {then:.2f} in the record, {last:.2f} now, moved by +0.25" in shown
    assert "2 values differ from the record's, all within the tolerance" in shown
    assert "model of the processor: 1 then, 99 now" in shown
    assert f"processor: {record.how.machine.processor} then, another now" in shown
    assert "torch's CPU capability: " in shown and "The code is another" not in shown
    accuracy, loss = "outcome.accuracy[1][0]: ", "outcome.loss_terms[0].Loss[0]: "
    assert shown.index("last: ") < shown.index("model of the") < shown.index(accuracy)
    assert shown.index(accuracy) < shown.index(loss)  # the larger share of its tolerance


def test_beyond_the_tolerance_the_repetition_fails(
    record: Record,
    tmp_path: Path,
    call: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = on_another_processor(record)
    code = replace(now.how.code, commit="f" * 40, changed=False)
    now = replace(now, how=replace(now.how, code=code))
    monkeypatch.setattr(weights, "trained_again", lambda *_: (None, now))
    write_record(tmp_path / "a.json", on_a_known_processor(record))
    edited(tmp_path / "a.json", moved(0.0125))
    assert call(tmp_path / "a.json") == 1
    shown = capsys.readouterr().out
    assert "2 values differ from the record's, 1 of them beyond the tolerance" in shown
    assert "The machine is another:" in shown and "ffffffffffff now" in shown


def test_on_the_same_machine_every_bit_counts(
    record: Record,
    tmp_path: Path,
    call: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = on_a_known_processor(record)
    monkeypatch.setattr(weights, "trained_again", lambda *_: (None, now))
    write_record(tmp_path / "a.json", now)
    edited(tmp_path / "a.json", moved(0.0))
    assert call(tmp_path / "a.json") == 1
    shown = capsys.readouterr().out
    assert "1 values differ from the record's. The machine is the same" in shown


def test_a_record_without_its_processor_says_so(
    record: Record,
    tmp_path: Path,
    call: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An older record stays readable, with the bytes that it has."""
    monkeypatch.setattr(weights, "trained_again", lambda *_: (None, record))
    older = replace(record, how=replace(record.how, machine=replace(record.how.machine, cpu=None)))
    write_record(tmp_path / "a.json", older)
    assert (
        "cpu" not in json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["how"]["machine"]
    )
    edited(tmp_path / "a.json", moved(0.0025))
    assert call(tmp_path / "a.json") == 0
    shown = capsys.readouterr().out
    assert "does not hold family, model and stepping of its processor" in shown
    assert "not recorded" not in shown


def test_many_differences_are_counted_and_all_can_be_listed(
    record: Record,
    tmp_path: Path,
    call: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights, "trained_again", lambda *_: (None, record))
    write_record(tmp_path / "a.json", record)

    def rename(content: dict[str, Any]) -> None:
        terms = content["outcome"]["loss_terms"][0]
        content["outcome"]["loss_terms"][0] = {
            f"{k}{n}": v for k, v in terms.items() for n in range(MOST_SHOWN + 5)
        }

    edited(tmp_path / "a.json", rename)
    assert call(tmp_path / "a.json") == 1
    shown = capsys.readouterr().out
    assert shown.count("outcome.loss_terms[0].") == MOST_SHOWN
    assert "more: --all lists all of them" in shown
    assert call(tmp_path / "a.json", "--all") == 1
    shown = capsys.readouterr().out
    assert shown.count("outcome.loss_terms[0].") > MOST_SHOWN + 5 and "more: --all" not in shown


def test_what_cannot_be_made_again_is_said(
    record: Record, tmp_path: Path, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(tmp_path / "f.json", failed(recipe("lp-ft")))
    assert call(tmp_path / "f.json") == 2
    assert "the run failed" in capsys.readouterr().err
    (tmp_path / "cut.json").write_text("{", encoding="utf-8")
    assert call(tmp_path / "cut.json") == 2
    assert call(tmp_path / "nowhere.json") == 2
    assert capsys.readouterr().err.count("error: ") == 2
