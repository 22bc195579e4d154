"""``python -m benchmarks run --data``: folders of photographs, to the table."""

from __future__ import annotations

import os
import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import main as program
from benchmarks.commands.run import planned
from benchmarks.commands.work import run as work
from benchmarks.execution.failure import RunFailedError, attempt
from benchmarks.execution.job import Job
from benchmarks.experiment import data as data_module
from benchmarks.results.files import read_record
from tests.benchmarks.commands.test_run import call, options
from tests.streams.test_photo_folders import flat, photo

TINY = ("--set", "backbone.name=tiny-clip", "train.epochs=1", "train.augment=none")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """``pets``, of class folders, and ``birds/2024``, of two parts."""
    flat(tmp_path / "photos/pets")
    flat(tmp_path / "photos/birds/2024/train", ("finch", "wren"), 6)
    flat(tmp_path / "photos/birds/2024/val", ("finch", "wren"), 3)
    return tmp_path / "photos"


def test_folders_become_data_sets_without_a_path_of_the_machine(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, *_, last) = planned(options("--data", str(photos / "pets"), str(photos / "birds/2024")))
    assert first.config.stream.sets == ("folder:pets", "folder:birds/2024")  # type: ignore[union-attr]
    assert first.config.where.data == str(photos) and first.folder == Path("runs/own_data")
    assert (first.config.method, last.config.method) == ("lp-ft", "soft-fda")
    monkeypatch.setenv("HOME", str(photos.parent))
    monkeypatch.chdir(photos / "birds")
    same = planned(options("--data", "~/photos/pets", "2024"))
    assert same[0].config.identity == first.config.identity
    (one,) = planned(options("--data", ".", "--methods", "fda", "--config", "ldifs.yaml"))
    assert one.config.stream.sets == ("folder:birds",)  # type: ignore[union-attr]
    assert one.config.where.data == str(photos)


def test_what_is_no_folder_of_photographs_is_refused_with_the_remedy(
    photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.zip").write_bytes(b"x")
    (tmp_path / "x.npz").write_bytes(b"x")
    for words, message in (
        (("--data", photos / "pet"), "is not there .is it .*/pets.?.: a folder needs"),
        (("--data", tmp_path / "x.zip"), "x.zip is a file: extract the archive"),
        (("--data", tmp_path / "x.npz"), r"stream.sets: \['npz:x.npz'\]"),
        (("--data", photos / "pets", photos / "pets"), "share images: give folders that do not"),
        (("--data", photos / "birds/2024", photos / "birds"), "share images"),
        (
            ("--data", photos / "pets", "--set", 'panel.sets=["folder:."]'),
            r"on the panel at once \(folder:\. contains folder:pets\): remove them",
        ),
        (("--data", photos / "pets", "--set", "where.data=."), "--set where.data: --data sets it"),
        (("--data", photos / "pets", "--set", "stream.sets=[MNIST]"), "--set stream.sets: --data"),
        ((), "give --config RECIPE, or --data with folders of photographs"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            planned(options(*map(str, words)))


@pytest.mark.usefixtures("quick_processes")
def test_from_photographs_to_the_table(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photo(photos / "pets/.ipynb_checkpoints/1-checkpoint.png", 3)
    (photos / "pets/cat/IMG.HEIC").write_bytes(b"x")
    (photos / "pets/empty").mkdir()
    words = ("run", "--data", photos / "pets", photos / "birds/2024", *TINY, "--methods", "frozen")
    monkeypatch.setattr("sys.argv", ["benchmarks", *map(str, words), "--dry-run"])
    assert program() == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(
        "# folder:pets: 2 classes; images: 14 train, 2 validation, 4 test\n"
        "# folder:birds/2024: 2 classes; images: 10 train, 2 validation, 6 test\n"
    )
    *_, summary = yaml.safe_load_all(shown.out)
    sets = summary["stream_summary"]["sets"]
    assert [each["classes"] for each in sets] == [2, 2]
    assert [(s["train"], s["validation"], s["test"]) for s in sets] == [(14, 2, 4), (10, 2, 6)]
    assert shown.err.splitlines() == [
        "folder:pets: no image: empty; left out: add images, or remove the folder",
        "folder:pets: files that are not read: 1 .heic; convert .heic to .jpg to use them",
    ]
    broken = sorted((photos / "pets/dog").iterdir())[:2]
    for path in broken:
        path.write_bytes(path.read_bytes()[:40])
    monkeypatch.setattr("sys.argv", ["benchmarks", *map(str, words), "--out", str(tmp_path / "o")])
    assert program() == 2  # before anything is trained
    *notices, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ") and any(str(path) in error for path in broken)
    assert "1 more images are broken: --scan lists them all" in error
    assert "folder:pets: no image: empty; left out: add images, or remove the folder" in notices
    assert "remove or replace the file, or leave broken images out with --on-corrupt drop" in error
    argv = ["benchmarks", *map(str, words), "--out", str(tmp_path / "o"), "--on-corrupt", "drop"]
    monkeypatch.setattr("sys.argv", argv)
    assert program() == 0
    shown = capsys.readouterr()
    assert "folder:pets: broken images are left out (2): " in shown.err
    assert all(f" dog/{path.name}" in shown.err for path in broken)
    assert "| frozen |" in shown.out and f" --data {photos}\n" in shown.out  # for features
    (file,) = (tmp_path / "o").glob("*.json")
    assert "|  | pets | birds/2024 |" in shown.out and "| one image (points) | " in shown.out
    assert f" -m benchmarks export {file} --data {photos}\n" in shown.out
    record = read_record(file)
    assert record.stream is not None and len(record.stream.summary["dropped"]) == 2
    assert record.stream.experiences == ("pets", "birds/2024")
    assert str(tmp_path) not in str(record.stream) and record.artefacts
    photo(photos / "pets/cat/new.png", 999)
    monkeypatch.setattr(data_module, "_KEPT", OrderedDict())  # as in a new process
    assert program() == 0  # the run of before is not taken for one on these images
    assert read_record(file.with_name(f"{file.name}.refused")).run_id == record.run_id
    again = read_record(file)
    assert again.stream is not None and again.stream.split_sha256 != record.stream.split_sha256


def test_names_are_shown_as_they_are_and_one_broken_image_names_the_scan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = flat(tmp_path / "Fotos/Vögel", ("Kätzchen", "犬"))
    words = ("--data", folder, *TINY, "--methods", "frozen")
    assert call(*words, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "# folder:Vögel: 2 classes" in shown and "{name: 'folder:Vögel'," in shown
    assert "\\x" not in shown and "\\u" not in shown
    (folder / "犬/0.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty \(the only broken image that --scan lists\); rem"):
        call(*words)


@pytest.mark.parametrize("layout", ["pets", "birds/2024"])
def test_a_broken_link_stops_is_listed_or_is_left_out(
    photos: Path, capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    link = next((photos / layout).rglob("*.png")).with_name("link.png")
    link.symlink_to(photos / "gone.png")
    words = ("--data", photos / layout, *TINY, "--methods", "frozen")
    with pytest.raises(ValueError, match=r"link\.png: the link leads to no file .*remove or"):
        call(*words)
    assert call(*words, "--scan") == 1
    assert f"{link}: the link leads to no file" in capsys.readouterr().out
    assert call(*words, "--on-corrupt", "drop", "--dry-run") == 0
    assert "broken images are left out (1): " in capsys.readouterr().err


def test_without_a_network_the_small_model_is_named_and_the_data_come_first(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def checked_steps(jobs: object) -> object:
        raise ConnectionError("the weights could not be downloaded")

    monkeypatch.setattr(work, "checked_steps", checked_steps)
    tiny = r"--set backbone\.name=tiny-clip train\.lr=3e-4"
    for words, end in (
        (("--data", photos / "pets"), f"downloaded; to try .*: {tiny}$"),
        (("--config", "ldifs.yaml"), "downloaded$"),
    ):
        with pytest.raises(ConnectionError, match=end):
            call(*words)
    (photos / "pets/empty").mkdir()
    capsys.readouterr()
    with pytest.raises(ConnectionError, match=tiny):
        call("--data", photos / "pets", photos / "birds/2024", "--dry-run")
    shown = capsys.readouterr()  # the images are shown before the weights are needed
    assert shown.out.splitlines() == [
        "# folder:pets: 2 classes; images: 14 train, 2 validation, 4 test",
        "# folder:birds/2024: 2 classes; images: 10 train, 2 validation, 6 test",
    ]
    assert shown.err.count("folder:pets: no image: empty; left out") == 1
    absent = ("--config", "imagenet_r.yaml", "--set", f"where.data={photos}")
    with pytest.raises(FileNotFoundError, match="imagenet-r"):
        call(*absent, "--dry-run")


def test_a_run_that_stops_at_an_image_says_so_in_one_line(tmp_path: Path) -> None:
    flat(tmp_path / "a")
    (job,) = planned(options("--data", str(tmp_path / "a"), "--methods", "frozen"))
    path = tmp_path / "a/cat/0.png"

    def work(job: Job, parallel: int) -> None:
        from torch.utils.data import DataLoader

        from avalanche_proxyfda.streams.files.images import ImageFiles

        for workers in (parallel, 0):
            list(DataLoader(ImageFiles([path], [0]), num_workers=workers))

    path.write_bytes(b"")
    for workers in (1, 0):
        with pytest.raises(RunFailedError) as stopped:
            attempt(work, job, workers)  # type: ignore[arg-type]
        assert stopped.value.trace == "" and str(stopped.value) == (
            f"UnreadableImage: {path}: the file is empty; remove or replace the file, or leave "
            "broken images out with stream.on_corrupt=drop (--on-corrupt drop)"
        )


def test_a_folder_that_cannot_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flat(tmp_path / "a")
    shutil.rmtree(tmp_path / "a/dog")
    monkeypatch.setattr("sys.argv", ["benchmarks", "run", "--data", str(tmp_path / "a"), *TINY])
    assert program() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}/a has images of one class alone, cat; two classes are needed" in line
    assert os.listdir(tmp_path) == ["a"]
    assert call("--data", flat(tmp_path / "b"), "--scan", "--methods", "frozen") == 0
    assert "20 images read, 0 of them broken" in capsys.readouterr().out


def test_a_parent_of_data_sets_is_asked_about_and_stays_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("pets", "birds"):
        flat(tmp_path / "photos" / name)
    words = (*TINY, "--methods", "frozen", "--dry-run")
    assert call("--data", tmp_path / "photos", *words) == 0
    shown = capsys.readouterr()
    assert "# folder:photos: 2 classes;" in shown.out
    sets = f"{tmp_path}/photos/birds {tmp_path}/photos/pets"
    question = f"folders birds, pets hold folders and no images: did you mean --data {sets}?"
    assert shown.err.splitlines()[0] == f"the class {question}"
    photo(tmp_path / "photos/pets/own.png", 5)  # a class with an image of its own
    assert call("--data", tmp_path / "photos", *words) == 0
    assert "did you mean" not in capsys.readouterr().err
    assert call("--data", tmp_path / "photos/pets", *words) == 0
    assert "did you mean" not in capsys.readouterr().err
