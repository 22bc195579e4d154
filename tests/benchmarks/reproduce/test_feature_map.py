"""The command that draws features before and after a run."""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import sys
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from avalanche_proxyfda.streams.files.datasets import load
from avalanche_proxyfda.tuned import WEIGHTS
from benchmarks.commands import features
from benchmarks.config import Config
from benchmarks.experiment.prepare import prepare
from benchmarks.experiment.run import run
from benchmarks.reproduce import from_record, weights
from benchmarks.reproduce.feature_report import FIELDS
from benchmarks.reproduce.pictures import file_names, forgotten, missing_glyphs_said, thumbnails
from benchmarks.reproduce.projection import Neighbors
from benchmarks.reproduce.recorded import chosen_set
from benchmarks.reproduce.set_names import named_set
from benchmarks.results.files import write_record
from benchmarks.results.record import Record
from tests.benchmarks import miniature
from tests.benchmarks.records import failed, finished, recipe
from tests.streams.test_photo_folders import flat

TINY = {"train__epochs": 1, "stream__sets": ["digits"], "panel__sets": ["colours"]}


def command(path: Path, *options: str) -> tuple[int, str]:
    parser = argparse.ArgumentParser()
    features.add_options(parser)
    printed = StringIO()
    with redirect_stdout(printed):
        status = features.main(parser.parse_args(["--run", str(path), *options]))
    return status, printed.getvalue()


@dataclass(frozen=True)
class Drawn:
    config: Config
    record: Record
    path: Path
    printed: str

    @property
    def weights(self) -> Path:
        return self.path.parent / self.record.label / WEIGHTS


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """A run that kept its weights, and its features drawn."""
    folder = tmp_path_factory.mktemp("runs")
    config = recipe("lp-ft", **TINY, where__keep_weights=True)
    record = run(config, folder=folder / config.label)
    path = folder / f"{record.label}.json"
    write_record(path, record)
    status, printed = command(path)
    assert status == 0
    return Drawn(config, record, path, printed)


@pytest.fixture
def copied(drawn: Drawn, tmp_path: Path) -> Drawn:
    """The record in a folder of its own, with the weights."""
    path = tmp_path / drawn.path.name
    shutil.copy(drawn.path, path)
    shutil.copytree(drawn.weights.parent, tmp_path / drawn.record.label)
    return replace(drawn, path=path)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_kept_model_is_drawn(drawn: Drawn) -> None:
    stem = f"{drawn.record.label}-colours"
    found = files(drawn.path.parent / "features")
    assert sorted(found) == [f"{stem}{end}" for end in ("-images.png", ".csv", ".png", ".svg")]
    assert found[f"{stem}-images.png"].startswith(b"\x89PNG")
    assert found[f"{stem}.png"].startswith(b"\x89PNG") and b"<svg" in found[f"{stem}.svg"]
    table = list(csv.DictReader(StringIO(found[f"{stem}.csv"].decode())))
    assert tuple(table[0]) == FIELDS and len(table) == 400
    assert [int(row["index"]) for row in table] == list(range(400))
    assert {row["class"] for row in table} >= {"colour red", "colour blue"}
    outcome = drawn.record.outcome
    assert outcome is not None
    kept = outcome.panel[-1].drift["colours"]["neighbors"]  # by Avalanche's side, of these images
    assert kept is not None and 0.3 < kept < 1
    assert np.mean([float(row["share_kept"]) for row in table]) == pytest.approx(kept, abs=1e-3)
    assert "the one that the run kept" in drawn.printed
    worst = min(table, key=lambda row: float(row["share_kept"]))
    lost = round(10 * (1 - float(worst["share_kept"])))
    line = next(line for line in drawn.printed.splitlines() if line.startswith("  1. "))
    assert line.startswith(f"  1. {worst['file']} ({worst['class']}) lost {lost} of 10: ")
    assert f"colours: {100 * kept:.1f} % of the 10 nearest neighbours kept" in drawn.printed
    assert "colours is shown: it lost the most neighbours of the panel; --set" in drawn.printed
    assert f" -m benchmarks export {drawn.path}\n" in drawn.printed
    for name in found:
        assert str(drawn.path.parent / "features" / name) in drawn.printed
    apart = [abs(float(r["x_before"]) - float(r["x_after"])) for r in table]
    assert 0 < np.median(apart) < 0.5


def test_a_run_without_weights_is_trained_again_to_the_same_bytes(
    drawn: Drawn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / drawn.path.name
    shutil.copy(drawn.path, path)
    status, printed = command(path, "--out", str(tmp_path / "out"))
    assert status == 0 and "training it again" in printed and "was reproduced" in printed
    errors = capsys.readouterr().err
    assert "steps: 100%" in errors and "WARNING" not in errors
    assert files(tmp_path / "out") == files(drawn.path.parent / "features")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, "out"])


@pytest.fixture
def other(copied: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training again comes to another outcome; the weights are the kept ones."""
    assert copied.record.outcome is not None
    content = copied.weights.read_bytes()
    worse = replace(copied.record.outcome, avalanche_forgetting=0.123)

    def other_run(config: Config, after_step: Any, folder: Path) -> Record:
        assert config.where.keep_weights and config.identity == copied.record.run_id
        folder.mkdir()
        (folder / WEIGHTS).write_bytes(content)
        return replace(copied.record, outcome=worse)

    monkeypatch.setattr(weights, "run", other_run)
    copied.weights.unlink()


@pytest.mark.usefixtures("other")
def test_a_run_that_is_not_reproduced_is_told_and_drawn(
    copied: Drawn, capsys: pytest.CaptureFixture[str]
) -> None:
    status, printed = command(copied.path, "--set", "digits", "--images", "30", "--neighbors", "5")
    assert status == 0 and "was reproduced" not in printed
    warned = capsys.readouterr().err
    assert "WARNING: THE RUN WAS NOT REPRODUCED" in warned and "The figure shows the mod" in warned
    (table,) = (copied.path.parent / "features").glob("*-digits.csv")
    found = list(csv.DictReader(table.open(encoding="utf-8")))
    assert len(found) == 30  # classes in turn
    assert {sum(r["class"] == c for r in found) for c in {r["class"] for r in found}} == {3}


def test_other_splits_and_sets_have_files_of_their_own(copied: Drawn) -> None:
    short = "--images", "40", "--split", "validation"
    assert command(copied.path, *short)[0] == command(copied.path, *short, "--set", "digits")[0]
    names = sorted(path.name for path in (copied.path.parent / "features").glob("*.csv"))
    label = copied.record.label
    assert names == [f"{label}-colours-validation.csv", f"{label}-digits-validation.csv"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--set", "paintings"),
            "--set 'paintings' names no set of the run; it has colours, digits",
        ),
        (("--neighbors", "0"), "--neighbors 0: at least one"),
        (("--images", "0"), "--images 0: at least one"),
        (("--images", "10", "--neighbors", "10"), "--neighbors 10 must be below the 10 images"),
    ],
)
def test_bad_options_are_refused(drawn: Drawn, options: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        command(drawn.path, *options)


def test_weights_of_another_hash_are_refused(copied: Drawn) -> None:
    content = copied.weights.read_bytes()
    copied.weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"is not the file that the run wrote.*or remove it"):
        command(copied.path)


def test_another_beginning_and_other_images_are_refused(copied: Drawn) -> None:
    record = copied.record
    assert record.panel is not None and record.stream is not None
    panel = {"colours": replace(record.panel["colours"], sha256="0" * 64)}
    cases = (
        ("colours", "pre-trained weights of tiny-clip", {"initial_tower_sha256": "0" * 64}),
        ("colours", "colours: its images here", {"panel": panel}),
        (
            "digits",
            "digits: its images here",
            {"stream": replace(record.stream, split_sha256="0" * 64)},
        ),
    )
    for name, words, change in cases:
        write_record(copied.path, replace(record, **change))
        with pytest.raises(ValueError, match=words):
            command(copied.path, "--set", name)


@pytest.mark.parametrize(
    ("stream", "name", "split", "classes"),
    [
        ({"kind": "sequence", "sets": ["folder:stripes"]}, "stripes", "train", "one two three"),
        (
            {"kind": "sequence", "sets": ["folder:photo", "folder:sketch"], "shared_labels": True},
            "sketch",
            "test",
            "cat dog owl",
        ),
        ({"kind": "sequence", "sets": ["folder:stripes"]}, "grey", "validation", "a b"),
        (
            {"kind": "imagenet-r", "num_experiences": 50, "validation_share": 0.34},
            "classes 1",
            "test",
            "",
        ),
    ],
)
def test_images_of_files_are_shown_as_in_evaluation(
    data: Path, stream: dict[str, Any], name: str, split: Any, classes: str
) -> None:
    config = miniature.config(data, stream=stream, panel={"sets": ["folder:grey"]})
    made, views = prepare(config), miniature.views_of(config)
    record: Any = argparse.Namespace(
        panel={p.images.name: p for p in made.panel},
        stream=argparse.Namespace(split_sha256=made.stream.summary["split_sha256"]),
    )
    found = from_record.shown(made, record, name, split, 6)
    used = {found.classes[label] for label in found.labels}
    assert used == set(classes.split()) or (not classes and len(used) == 4)
    assert not any(word.startswith("n0") for word in used)  # words, not WordNet ids
    assert [found.images[k][1] for k in range(len(found.rows))] == list(found.labels)
    named = file_names(found)
    assert all(re.fullmatch(r"[\w]+/(\d{3}|art_\d)\.png", word) for word in named), named
    if stream["kind"] == "sequence":
        words = [name.partition("/")[0] for name in named]
        assert words == [found.classes[label] for label in found.labels]
    for k, row in enumerate(found.rows):
        stored = from_record.stored_image(found.source, row)
        assert (views.evaluation(stored) == found.images[k][0]).all()
    values = from_record.features(made.model.tower, found, config, made.device)
    assert values.shape == (min(6, len(found.rows)), 128) and bool(values.isfinite().all())


def test_a_stream_without_validation_has_no_validation_images(data: Path) -> None:
    stream = {"kind": "imagenet-r", "num_experiences": 50, "validation_share": 0}
    made = prepare(miniature.config(data, stream=stream, panel={"sets": []}))
    record: Any = argparse.Namespace(panel={}, stream=argparse.Namespace(split_sha256=""))
    with pytest.raises(ValueError, match="--split validation: the run's stream has none"):
        from_record.shown(made, record, "classes 0", "validation", 6)


def test_the_device_of_another_machine_is_not_needed() -> None:
    config = recipe("lp-ft", where__device="cuda:77", where__loggers=["csv"])
    found = from_record.config_of(finished(config))
    assert found.where.device == "auto" and found.where.loggers == ()
    assert found.where.keep_weights and found.identity == config.identity


def test_records_that_cannot_be_drawn_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_record(path, failed(recipe("fda", strength=1.0)))
    with pytest.raises(ValueError, match=r"a\.json: the run failed \(RuntimeError: no more memory"):
        command(path)
    write_record(path, finished(recipe("fda", strength=1.0)))
    content = json.loads(path.read_text(encoding="utf-8"))
    content["how"]["config"]["seed"] = 5
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.json: its hash is not .*: it was edited"):
        command(path)
    without = finished(recipe("fda", strength=1.0))
    assert without.outcome is not None
    for learnt, name in ((0.9, "set0"), (0.8, "set0"), (0.5, "set1")):
        matrix = ((None, None), (learnt, None), (0.8, 0.9))
        outcome = replace(without.outcome, panel=(), accuracy=matrix)
        assert chosen_set(replace(without, outcome=outcome), None) == name


def test_umap_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match="pip install umap-learn"):
        command(Path("nothing.json"), "--method", "umap")


def test_short_names_of_sets() -> None:
    names = ["photos/pets", "photos/birds", "pacs_photo.npz", "pacs_sketch.npz", "Digits"]
    for asked, name in (
        ("photos/pets", "photos/pets"),
        ("birds", "photos/birds"),
        ("bi", "photos/birds"),
        ("pacs_photo", "pacs_photo.npz"),
        ("pacs_s", "pacs_sketch.npz"),
        ("digits", "Digits"),
        ("photos/p", "photos/pets"),
    ):
        assert named_set(asked, names) == name
    assert named_set("pets", ["pets", "old/pets"]) == "pets"  # the whole name wins
    with pytest.raises(ValueError, match=r"'pacs' fits pacs_photo\.npz, pacs_sketch\.npz: give"):
        named_set("pacs", names)
    with pytest.raises(ValueError, match=r"it has photos/pets, .*; did you mean 'Digits'\?"):
        named_set("digitz", names)
    with pytest.raises(ValueError, match="names no set of the run"):
        named_set("", names)


def test_the_files_of_what_was_forgotten_are_named_and_shown(tmp_path: Path) -> None:
    flat(tmp_path / "a", ("cat $1", "dog"))
    data = load("folder:a", tmp_path)
    rows = tuple(range(len(data.test)))
    labels = tuple(data.test.targets)
    images: Any = from_record.Shown("a", 1, None, rows, labels, data.classes, data.test)  # type: ignore[arg-type]
    places = [where for where, _ in data.test.placed()]
    lost = ((), (2, 3), (), (0,))
    neighbors = Neighbors(np.array([1, 1 / 3, 1, 2 / 3]), lost)
    assert list(forgotten(images, neighbors, 3)) == [
        "Most neighbours lost:",
        f"  1. {places[1]} (cat $1) lost 2 of 3: {places[2]}, {places[3]}",
        f"  2. {places[3]} (dog) lost 1 of 3: {places[0]}",
    ]
    picture = Image.open(BytesIO(thumbnails(images, neighbors, neighbors.worst(5))))
    assert picture.width > 400 and picture.height > 300
    for name in ("W" * 30, "many short words, one after the other"):
        narrow = Neighbors(neighbors.kept, ((), (2,), (), (0,)))  # one picture beside each
        content = thumbnails(replace(images, name=name), narrow, (1, 3))
        pixels = np.asarray(Image.open(BytesIO(content)).convert("L"))
        assert (pixels[:, [0, 1, -2, -1]] == 255).all(), name  # nothing is cut on the sides
        assert (pixels[:2] == 255).all() and (pixels < 255).any()
    assert list(forgotten(images, Neighbors(np.ones(4), ((),) * 4), 3)) == []


def test_letters_without_a_glyph_are_said_in_one_sentence(
    capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    with missing_glyphs_said():
        figure = Figure()
        figure.suptitle("犬 cat 犬\U0001fae8")
        figure.savefig(BytesIO(), format="png")
        warnings.warn("another", UserWarning, stacklevel=1)
    shown = capsys.readouterr().err
    assert shown.startswith("The figures show boxes for 犬 \U0001fae8: matplotlib's font lacks ")
    assert shown.count("\n") == 1 and "Glyph" not in shown
    assert [str(each.message) for each in recwarn] == ["another"]
