"""Records on disk: whole, sealed, validated, or refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic
import pytest

from benchmarks.config import Config, later_keys, read
from benchmarks.config import plain as plain_config
from benchmarks.results import scores
from benchmarks.results.files import (
    SCHEMA_FILE,
    RefusedRecordError,
    collect,
    read_record,
    schema,
    seal,
    sealed,
    write_record,
)
from benchmarks.results.identity import LATER_KEYS, run_id_of
from benchmarks.results.record import Record, plain
from benchmarks.results.settings import leaves, setting_of
from tests.benchmarks.records import failed, finished, recipe


@pytest.fixture
def record() -> Record:
    return finished(recipe("fda", strength=1.0, seed=3))


def test_what_is_written_is_read(record: Record, tmp_path: Path) -> None:
    for each in (record, failed(recipe("lp-ft"))):
        path = tmp_path / "x" / f"{each.label}.json"
        write_record(path, each)
        assert read_record(path) == each
        assert [p.name for p in path.parent.iterdir()] == [path.name]
        path.unlink()


def test_the_id_is_of_the_configuration_without_its_place() -> None:
    config = recipe("fda", strength=1.0)
    moved = recipe("fda", strength=1.0, where__data="/elsewhere", where__device="cpu")
    assert config.identity == moved.identity == run_id_of(finished(moved).config)
    assert config.identity != recipe("fda", strength=1.0, seed=1).identity


def test_a_write_that_fails_leaves_the_old_file(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_record(path, record)
    before = path.read_bytes()
    object.__setattr__(record.cost, "seconds", float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(path, record)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    object.__setattr__(record.cost, "seconds", 1.0)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_record(path, record)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def changed(path: Path, edit: Callable[[dict[str, Any]], None], reseal: bool = True) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    if reseal:
        content["sha256"] = seal(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def put(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "reseal", "reason"),
    [
        (put("cost", "seconds", value=1.0), False, "it was edited after it was written"),
        (put("outcome", "accuracy", 2, 0, value=0.99), False, "it was edited after"),
        (put("schema_version", value=None), True, "no schema_version: .* run it again"),
        (put("schema_version", value=0), True, "schema 0 is older than 1 .* run it again"),
        (put("schema_version", value=True), True, "schema True is older"),
        (put("schema_version", value=2), True, "schema 2 is newer than 1, .* update"),
        (put("outcome", "accuracy", 1, 0, value=1.2), True, r"accuracy\.1\.0.*less than or equal"),
        (put("outcome", "accuracy", 1, 0, value=None), True, "accuracy None on experience 1"),
        (put("outcome", "accuracy", value=[[None]]), True, "expected T . 1 rows of T"),
        (put("how", "config", "seed", value=4), True, "not that of the configuration"),
        (put("status", value="failed"), True, "a finished run has all parts, a failed none"),
        (put("reason", value="slept"), True, "reason='slept'"),
        (put("extra", value=1), True, "extra: Unexpected keyword argument"),
        (put("cost", value=None), True, "a finished run has all parts"),
        (put("cost", "steps", value=-1), True, r"cost\.steps"),
        (put("stream", "experiences", value=["a"]), True, "the stream is not"),
        (put("outcome", "panel", 0, "after", value=1), True, "must rise from 0 to the end"),
        (put("outcome", "panel", 1, "after", value=77), True, "must rise from 0 to the end"),
        (put("outcome", "panel", 1, "linear_probe", "test", value={}), True, "the same sets"),
        (put("outcome", "panel", 1, "zero_shot", value=None), True, "different data sets"),
        (put("outcome", "validation_last", value=[0.5]), True, "validation_last has 1 entries"),
        (put("outcome", "validation_last", value=None), True, "both have validation data"),
        (put("outcome", "loss_terms", value=[]), True, "loss_terms has 0"),
        (put("panel", value={}), True, "were measured, not the record's sets"),
        (put("stream", "test", 0, value=0), True, "has no images to measure"),
        (put("how", "config", value={}), True, "how.config has no method, strength"),
    ],
)
def test_what_is_not_as_it_was_written_is_refused(
    record: Record, tmp_path: Path, edit: Any, reseal: bool, reason: str
) -> None:
    path = tmp_path / "a.json"
    write_record(path, record)
    changed(path, edit, reseal)
    with pytest.raises(RefusedRecordError, match=reason):
        read_record(path)
    assert list(collect([tmp_path]).refused) == ["a.json"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cut off, or no JSON"),
        (b'{"schema_version": 1, "outc', "cut off, or no JSON"),
        (b"\xff\xfe", "cut off, or no JSON"),
        (b"[1]", "no record"),
        (b"[" * 100_000, "cut off, or no JSON"),
        (b'{"schema_version": 1, "x": NaN}', "holds NaN"),
        (b'{"schema_version": 1, "x": -Infinity}', "holds -Infinity"),
        (b'{"schema_version": 1, "x": 1e999}', "not finite"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(RefusedRecordError, match=reason):
        read_record(tmp_path / "a.json")


def test_every_cut_is_refused(record: Record, tmp_path: Path) -> None:
    write_record(tmp_path / "a.json", record)
    whole = (tmp_path / "a.json").read_bytes()
    for end in range(0, len(whole) - 2, 97):
        (tmp_path / "a.json").write_bytes(whole[:end])
        with pytest.raises(RefusedRecordError):
            read_record(tmp_path / "a.json")


def test_what_is_no_file_and_names_of_several_places(record: Record, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_record(tmp_path / name / "x.json", record)
        (tmp_path / name / "y.json").write_text("{", encoding="utf-8")
    (tmp_path / "a" / "folder.json").mkdir()
    (tmp_path / "a" / "lost.json").symlink_to(tmp_path / "nowhere")
    found = collect([tmp_path / "a", tmp_path / "b"])
    assert found == collect([tmp_path / "b", tmp_path / "a"]) and len(found.records) == 1
    names = [name.removeprefix(f"{tmp_path.as_posix()}/") for name in found.refused]
    assert names == ["a/folder.json", "a/lost.json", "a/y.json", "b/y.json"]
    assert list(collect([tmp_path / "b"]).refused) == ["y.json"]


def test_places_without_records(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no record .* makes some"):
        collect([tmp_path])
    with pytest.raises(FileNotFoundError, match="nowhere is not there"):
        collect([tmp_path / "nowhere"])


def test_the_shipped_schema_holds_records_and_nothing_else(record: Record) -> None:
    import jsonschema

    shipped = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    checker = jsonschema.Draft202012Validator(shipped)
    checker.check_schema(shipped)
    for each in (record, failed(recipe("lp-ft"))):
        checker.validate(sealed(each))
    content = sealed(record)
    for edit in (
        put("cost", "steps", value="many"),
        put("mood", value="fine"),
        put("outcome", "accuracy", 1, 0, value=7),
    ):
        wrong = json.loads(json.dumps(content))
        edit(wrong)
        assert not checker.is_valid(wrong)
    del content["sha256"]
    assert not checker.is_valid(content)


@pytest.mark.skipif(
    not pydantic.VERSION.startswith("2.14."), reason="pydantic words schemas by version"
)
def test_the_shipped_schema_is_that_of_the_types() -> None:
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == schema(), (
        "python -m benchmarks.results.files"
    )


def test_every_scalar_of_a_hand_made_matrix() -> None:
    matrix = (
        (None, None, None),
        (0.9, None, None),
        (0.6, 0.8, None),
        (0.7, 0.5, 0.4),
    )
    panel = {"shapes": (0.8, 0.6), "colours": (0.5, 0.6)}
    made = finished(recipe("lp-ft"), matrix, panel)
    expected = {
        "last": (0.7 + 0.5 + 0.4) / 3,
        "avg": (0.9 + 0.7 + 1.6 / 3) / 3,
        "forgetting_first": (0.2 + 0.3) / 2,
        "forgetting_best": (0.2 + 0.3) / 2,
        "forgetting_coda": (0.3 + (-0.1 + 0.3) / 2) / 2,
        "bwt": -(0.2 + 0.3) / 2,
        "delta_lp": (-0.2 + 0.1) / 2,
        "delta_zs": (-0.2 + 0.1) / 2,
        "neighbors_kept": 0.6,
        "validation_accuracy": 0.72,
        "score": 0.70,
        "peak_memory": 1e9,
    }
    for name, value in expected.items():
        assert scores.SCORES[name](made) == pytest.approx(value), name
    assert made.stream is not None
    by_image = replace(made, stream=replace(made.stream, weighted_by="image", test=(100, 100, 200)))
    assert scores.last(by_image) == pytest.approx((70 + 50 + 80) / 400)
    with pytest.raises(ValueError, match="failed, and has no scores: RuntimeError"):
        scores.last(failed(recipe("lp-ft")))
    assert plain(made)["outcome"]["accuracy"][1] == [0.9, None, None]


def test_later_keys_do_not_count_at_their_defaults() -> None:
    """Records of before keep their ids; what is not the default makes another run."""
    config = recipe("fda", strength=1.0)
    assert plain_config(config)["train"]["accumulate"] == 1
    before = plain_config(config)
    for key in LATER_KEYS:
        part, _, name = key.partition(".")
        before[part].pop(name, None)  # a kind of stream has its own keys
    assert run_id_of(before) == config.identity
    others = [
        recipe("fda", strength=1.0, train__accumulate=2),
        recipe("fda", strength=1.0, train__precision="bf16"),
        recipe("fda", strength=1.0, train__precision="fp16"),
        recipe("fda", strength=1.0, train__optimizer="adam"),
        recipe("fda", strength=1.0, train__optimizer="sgd"),
        recipe("fda", strength=1.0, train__optimizer="sgd", train__momentum=0.9),
        recipe("fda", strength=1.0, train__betas=[0.9, 0.98]),
    ]
    assert len({config.identity, *(other.identity for other in others)}) == 8
    assert (
        setting_of(before)
        == setting_of(plain_config(config))
        != setting_of(plain_config(others[0]))
    )
    assert leaves(before) == leaves(plain_config(config))
    assert set(leaves(plain_config(others[0]))) - set(leaves(before)) == {"train.accumulate"}


def test_the_defaults_of_later_keys_are_those_of_the_configuration() -> None:
    assert later_keys() == LATER_KEYS
    content = plain_config(Config())
    for key, default in LATER_KEYS.items():
        part, _, name = key.partition(".")
        assert content[part].get(name, default) == default, key


def test_committed_records_keep_their_ids() -> None:
    files = sorted((Path(__file__).parents[3] / "docs/board/records").glob("*.json"))
    assert len(files) >= 130
    for file in files:
        content = json.loads(file.read_text(encoding="utf-8"))
        again = read(content["how"]["config"])  # with the keys of today
        assert again.identity == run_id_of(content["how"]["config"]) == content["run_id"], file
