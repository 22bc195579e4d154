"""Runs on folders of a user: no path is written, the images identify them, and rerun asks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avalanche_proxyfda.streams.files.images import list_hash
from benchmarks import __main__
from benchmarks.board.model import make_board
from benchmarks.board.page import page
from benchmarks.board.text import markdown
from benchmarks.board.write import current_versions
from benchmarks.config import Config, plain
from benchmarks.execution.job import Job
from benchmarks.execution.plan import checked_steps
from benchmarks.experiment.prepare import prepare
from benchmarks.experiment.record import failed_record
from benchmarks.experiment.run import run
from benchmarks.reproduce.from_record import config_of
from benchmarks.reproduce.here import Here
from benchmarks.reproduce.same_images import check_images
from benchmarks.results.agreement import differences
from benchmarks.results.files import collect, seal, write_record
from benchmarks.results.identity import LATER_KEYS, LATER_PARTS, canonical
from benchmarks.results.places import hidden
from benchmarks.results.record import Record
from tests.benchmarks import miniature
from tests.benchmarks.records import finished


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with one set to learn and one for the panel."""
    folder = tmp_path_factory.mktemp("user") / "my photos"
    miniature.write_folder(folder / "pets", ["cat", "dog"], (32, 32), "RGB", 0)
    miniature.write_folder(folder / "more" / "places", ["lake", "town"], (32, 32), "RGB", 1)
    return folder


def own(data: Path | str, pets: str, places: str) -> Config:
    return miniature.config(
        Path(data),
        method="lp-ft",
        stream={"kind": "sequence", "sets": [f"folder:{pets}"]},
        panel={"sets": [f"folder:{places}"]},
    )


@pytest.fixture(scope="module")
def outside(photos: Path) -> Record:
    """A run on folders outside ``where.data``."""
    return run(own("data", f"{photos}/pets", f"{photos}/more/places"))


@pytest.fixture(scope="module")
def inside(photos: Path) -> Record:
    """The run with relative folders."""
    return run(own(photos, "pets", "more/places"))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(*words: object) -> int:
        monkeypatch.setattr("sys.argv", ["benchmarks", "rerun", *map(str, words)])
        return __main__.main()

    return call


def test_the_same_images_are_one_split_and_one_section(
    photos: Path, outside: Record, inside: Record, tmp_path: Path
) -> None:
    assert outside.stream is not None
    assert inside.stream is not None
    assert outside.stream.split_sha256 == inside.stream.split_sha256
    assert outside.stream.experiences == inside.stream.experiences == ("pets",)
    assert list(outside.panel or {}) == ["places"] and list(inside.panel or {}) == ["more_places"]
    for name, record in (("a", outside), ("b", inside)):
        write_record(tmp_path / f"{name}.json", record)
    board = make_board(collect([tmp_path]), current_versions())
    (comparison,) = board.comparisons
    assert not any(mark.unranked for entry in comparison.entries for mark in entry.marks)
    shown = page(board) + markdown(board)
    assert str(photos) not in shown and "my photos" not in shown
    below = prepare(own(photos, f"{photos}/pets", "more/places"), only_check=True).stream
    assert (
        below.summary == prepare(own(photos, "pets", "more/places"), only_check=True).stream.summary
    )


def test_no_place_of_the_user_is_in_a_record(
    photos: Path, outside: Record, inside: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sys.argv",
        [f"{photos}/checkout/benchmarks/__main__.py", "run", "--out", f"{photos}/my runs"],
    )
    config = own(photos, "nowhere", f"{photos}/more/places")
    with pytest.raises(FileNotFoundError) as refused:
        prepare(config)
    failure = failed_record(config, f"FileNotFoundError: {refused.value}")
    assert failure.reason is not None and "<data>/nowhere" in failure.reason
    assert failure.how.command[:4] == ("python", "-m", "benchmarks", "run")
    for record in (outside, inside, failure):
        write_record(tmp_path / "a.json", record)
        text = (tmp_path / "a.json").read_text(encoding="utf-8")
        assert "my photos" not in text and str(photos.parent) not in text
    assert inside.how.config["where"]["data"] == "<data>"
    assert outside.how.config["stream"]["sets"] == ["folder:<elsewhere>/pets"]


def test_rerun_asks_for_the_places(
    photos: Path,
    outside: Record,
    inside: Record,
    tmp_path: Path,
    call: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_record(tmp_path / "outside.json", outside)
    write_record(tmp_path / "inside.json", inside)
    assert call(tmp_path / "outside.json") == 2
    assert "add --place pets=PATH --place places=PATH" in capsys.readouterr().err
    assert call(tmp_path / "inside.json") == 2
    assert "add --data DIR" in capsys.readouterr().err
    places = ("--place", f"pets={photos}/pets", "--place", f"places={photos}/more/places")
    assert call(tmp_path / "outside.json", *places) == 0
    assert call(tmp_path / "inside.json", "--set", f"where.data={photos}") == 0
    assert capsys.readouterr().out.count("Every number of the record came out again.") == 2
    assert call(tmp_path / "inside.json", "--data", photos, "--set", "train.lr=1") == 2
    assert "--set train.lr: it makes another run" in capsys.readouterr().err
    assert call(tmp_path / "inside.json", "--data", photos, "--place", "pets") == 2
    assert "--place 'pets': give NAME=PATH" in capsys.readouterr().err


def test_data_is_the_parent_of_the_sets(photos: Path, inside: Record) -> None:
    held = "the parent folder of the run's data sets: it holds DIR/pets and DIR/more/places"
    for given, words in (
        (None, f"add --data DIR, {held}"),
        (f"{photos}/pets/", f"--data {photos}/pets/ is the data set pets itself: give the parent"),
        (f"{photos}/more/places", f"data set more/places itself: .* folder, --data {photos}$"),
        (f"{photos}/more", f"does not hold pets, more/places: give DIR, {held}"),
    ):
        with pytest.raises(ValueError, match=words):
            config_of(inside, Here(given))
    assert config_of(inside, Here(str(photos))).where.data == str(photos)


def test_rerun_refuses_other_images(
    photos: Path, inside: Record, tmp_path: Path, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(tmp_path / "a.json", inside)
    for part, name in (("stream", "pets"), ("panel", "more/places")):
        copy = tmp_path / part
        shutil.copytree(photos, copy)
        first = next((copy / name / "test").rglob("*.png"))
        first.rename(first.with_name("other.png"))
        assert call(tmp_path / "a.json", "--data", copy) == 2
        error = capsys.readouterr().err
        assert f"not those of the run's {part} (SHA-256 differs)" in error


def test_reference_images_are_data_of_the_run_too(photos: Path) -> None:
    made = miniature.config(
        photos,
        method="dive",
        strength=1.0,
        stream={"kind": "concepts", "sets": ["colours"]},
        panel={"sets": []},
        reference_data={"images": "folder:pets", "batch": 16},
        where={"data": str(photos), "device": "cpu", "pixel_dir": str(photos / "rows")},
    )
    there = prepare(made, only_check=True)
    record = finished(made, ((0.1,), (0.9,)))
    assert record.stream is not None
    assert there.reference is not None
    own = replace(
        record,
        how=replace(record.how, config=hidden(plain(made))),
        stream=replace(record.stream, split_sha256=there.stream.summary["split_sha256"]),
        reference_data=there.reference.about,
    )
    with pytest.raises(ValueError, match=r"add --data DIR, the parent .* it holds DIR/pets$"):
        config_of(own)
    with pytest.raises(ValueError, match=r"is the data set pets itself: give the parent"):
        config_of(own, Here(f"{photos}/pets"))
    where = config_of(own, Here(str(photos))).where
    assert where.data == str(photos) and where.pixel_dir is None  # it saves time alone
    check_images(there, own)
    other = replace(there.reference.about, images_sha256="0" * 64)
    with pytest.raises(ValueError, match=r"reference data \(SHA-256 differs\)"):
        check_images(there, replace(own, reference_data=other))


def test_an_older_record_with_its_path_is_compared(
    photos: Path, outside: Record, tmp_path: Path
) -> None:
    """A record from before holds the path, in its hash of the split too."""
    write_record(tmp_path / "new.json", outside)
    content = json.loads((tmp_path / "new.json").read_text(encoding="utf-8"))
    config, stream = content["how"]["config"], content["stream"]
    name, places = f"folder:{photos}/pets", f"folder:{photos}/more/places"
    config["stream"]["sets"], config["panel"]["sets"] = [name], [places]
    split = list_hash([f"{name} {stream['summary']['sets'][0].pop('sha256')}"])
    stream["split_sha256"] = stream["summary"]["split_sha256"] = split
    stream["experiences"] = [f"{photos}/pets"]
    word = f"{photos}/more/places".replace("/", "_")
    text = json.dumps({k: content[k] for k in ("panel", "outcome")}).replace("places", word)
    content |= json.loads(text)
    bare = {k: v for k, v in config.items() if k != "where"}
    for key in LATER_KEYS:
        part, _, name = key.partition(".")
        bare[part].pop(name, None)
    bare = {k: v for k, v in bare.items() if v or k not in LATER_PARTS}
    content["run_id"] = seal(bare)
    content["sha256"] = seal(content)
    (tmp_path / "old.json").write_bytes(canonical(content))
    found = collect([tmp_path])
    assert not found.refused and len(found.records) == 1
    (agreeing,) = found.confirmations.values()
    assert len({record.run_id for record in agreeing}) == 2
    old, new = (
        next(r for r in agreeing if (r.run_id == outside.run_id) is is_new)
        for is_new in (False, True)
    )
    assert differences(old, new) == differences(new, old) == []
    check_images(prepare(own("data", f"{photos}/pets", f"{photos}/more/places")), old)


def test_a_record_of_other_images_is_not_kept(
    photos: Path, outside: Record, tmp_path: Path
) -> None:
    """Two folders outside may have one name; the run of the second is not the first's."""
    config = own("data", f"{photos}/pets", f"{photos}/more/places")
    miniature.write_folder(tmp_path / "pets", ["cat", "dog"], (32, 32), "RGB", 0, images=15)
    other = own("data", f"{tmp_path}/pets", f"{photos}/more/places")
    assert other.identity == config.identity == outside.run_id
    job = Job(config, tmp_path / "runs")
    write_record(job.file, outside)
    (same,), _ = checked_steps([job])
    assert same.state() == "finished"
    (moved,), _ = checked_steps([replace(job, config=other)])
    assert moved.state() == "refused: it is the record of other images under the same names"
