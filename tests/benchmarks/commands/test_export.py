"""From a record to a classifier of image files, which has the accuracy of the record."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from avalanche_proxyfda import load_tuned
from avalanche_proxyfda.tuned import DESCRIPTION, WEIGHTS
from benchmarks.commands import export
from benchmarks.commands.work.export import usage
from benchmarks.experiment.run import run
from benchmarks.reproduce import weights
from benchmarks.results.files import write_record
from benchmarks.results.record import Record
from benchmarks.streams.concepts.data import concept
from tests.benchmarks.records import failed, recipe

CONFIG = recipe(
    "finetune",
    train__epochs=1,
    stream__sets=["digits"],
    panel__sets=[],
    where__keep_weights=True,
)


def command(*words: object) -> int:
    parser = argparse.ArgumentParser()
    export.add_options(parser)
    return export.main(parser.parse_args(list(map(str, words))))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """A short run of the embedded stream that kept its model."""
    folder = tmp_path_factory.mktemp("runs")
    record = run(CONFIG, folder=folder / CONFIG.label)
    path = folder / f"{record.label}.json"
    write_record(path, record)
    return path, record


def test_the_classifier_has_the_accuracy_of_the_record(
    recorded: tuple[Path, Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, record = recorded
    assert command(path, "--out", tmp_path / "home") == 0
    said = capsys.readouterr().out
    assert f"load_tuned({str(tmp_path / 'home')!r}).predict(FOLDER)" in said
    data = concept("digits", "test")
    for number, (image, label) in enumerate(zip(data.images, data.targets, strict=True)):
        file = tmp_path / "photos" / data.classes[label] / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = (image.permute(1, 2, 0) * 127.5 + 127.5).round().byte().numpy()
        Image.fromarray(pixels).save(file)
    tuned = load_tuned(tmp_path / "home")
    assert tuned.classes == {"digits": data.classes}
    assert tuned.description.about["run_id"] == record.run_id
    found = tuned.predict(tmp_path / "photos", batch_size=100)
    hits = sum(Path(each.source).parent.name == each.name for each in found)
    assert record.outcome is not None
    assert hits / len(found) == record.outcome.accuracy[-1][0]
    assert len(found) == 400 and hits > 100


def test_the_printed_call_runs_as_pasted(recorded: tuple[Path, Record], tmp_path: Path) -> None:
    """With several tasks, the call names a task of the model, whatever its name."""
    path, record = recorded
    weights_file = path.parent / record.label / "model.safetensors"
    content = json.loads(weights_file.with_name("model.json").read_text(encoding="utf-8"))
    digits = content["tasks"][0]
    content["tasks"] = [{**digits, "name": "the sea's"}, digits]
    home = tmp_path / "my home"
    home.mkdir()
    shutil.copy(weights_file, home)
    (home / "model.json").write_text(json.dumps(content), encoding="utf-8")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    said = usage(home, ["the sea's", "digits"])
    lines = said.replace("In Python:", "").replace("FOLDER", repr(str(tmp_path / "a.png")))
    code = "\n".join(line.strip() for line in lines.splitlines())
    exec(code, {})
    assert 'task="the sea\'s")' in said and said.endswith("the other tasks: 'digits'")


def test_a_run_without_weights_is_trained_again(
    recorded: tuple[Path, Record],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, record = recorded
    content = (path.parent / record.label / "model.safetensors").read_bytes()
    shutil.copy(path, tmp_path / path.name)
    assert record.outcome is not None
    worse = replace(record, outcome=replace(record.outcome, avalanche_forgetting=0.5))
    for again, warned in ((record, False), (worse, True)):
        monkeypatch.setattr(weights, "repeated", lambda *_, again=again: (content, again))
        assert command(tmp_path / path.name) == 0
        out, err = capsys.readouterr()
        assert "training it again" in out and ("was reproduced: all its" in out) is not warned
        assert ("NOT REPRODUCED" in err and "The files hold the model of this" in err) is warned
    folder = tmp_path / "exported" / record.label
    kept = path.parent / record.label
    for name in ("model.safetensors", "model.json"):
        assert (folder / name).read_bytes() == (kept / name).read_bytes()


def test_files_that_the_run_did_not_write(recorded: tuple[Path, Record], tmp_path: Path) -> None:
    path, record = recorded
    shutil.copy(path, tmp_path / path.name)
    shutil.copytree(path.parent / record.label, tmp_path / record.label)
    with (tmp_path / record.label / "model.json").open("a", encoding="utf-8") as file:
        file.write(" ")
    with pytest.raises(ValueError, match=r"model\.json is not the file that the run wrote"):
        command(tmp_path / path.name)


def test_the_help_names_both_files() -> None:
    parser = argparse.ArgumentParser()
    export.add_options(parser)
    assert f"folder of {WEIGHTS} and {DESCRIPTION};" in " ".join(parser.format_help().split())


def test_a_failed_run_has_no_model(tmp_path: Path) -> None:
    record: Any = failed(CONFIG)
    write_record(tmp_path / "x.json", record)
    with pytest.raises(ValueError, match=r"the run failed .*no tuned model"):
        command(tmp_path / "x.json")
