"""``python -m benchmarks run`` on miniatures: from the archive to the table."""

from __future__ import annotations

import argparse
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from avalanche_proxyfda.streams.files.download import file_digest
from benchmarks import __main__ as program
from benchmarks.commands.run import add_options, main, planned
from benchmarks.config import RECIPES, Config, load_recipe, plain
from benchmarks.execution.fitted import fitted
from benchmarks.experiment.loggers import open_loggers
from benchmarks.results.files import read_record
from benchmarks.results.scores import delta_lp, delta_zs
from tests.benchmarks.miniature import imagenet_wnids, write_folder, write_imagenet_r

pytestmark = pytest.mark.filterwarnings("ignore:.* ImageNet-R has 30000")
RECIPE = """
stream: {kind: imagenet-r, root: imagenet-r.tar, num_experiences: 5, validation_share: 0.34}
backbone: {name: tiny-clip}
head: {kind: probe, l2: 1e-3}
train: {lr: 1e-4, batch: 64}
panel: {sets: [colours], train: 40, test: 40}
compare: [lp-ft, fda]
methods: {fda: {options: {num_neighbors: 8}}}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of the miniature, its recipe, and recipes of one method that build on it."""
    pytest.importorskip("timm")
    root = tmp_path_factory.mktemp("data")
    write_imagenet_r(root / "made" / "imagenet-r", imagenet_wnids())
    with tarfile.open(root / "imagenet-r.tar", "w") as tar:
        tar.add(root / "made" / "imagenet-r", "imagenet-r")
    (root / "mini.yaml").write_text(f"{RECIPE}where: {{data: {root}}}\n", encoding="utf-8")
    for method in ("lp-ft", "fda"):
        file = root / "mini" / f"{method}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"base: ../mini.yaml\nmethod: {method}\n", encoding="utf-8")
    return root


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(words)


def call(*words: object) -> int:
    return main(options(*map(str, words)))


@pytest.mark.usefixtures("quick_processes")
def test_from_the_archive_to_the_table(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["benchmarks", "run", "--config", str(data / "mini.yaml"), "--out", str(tmp_path)]
    loggers = "where.loggers=[text, csv, tensorboard]"
    monkeypatch.setattr("sys.argv", [*words, "--set", loggers, "stream.num_experiences=2"])
    assert program.main() == 0
    shown = capfd.readouterr()
    assert "2 runs, " in shown.out and "100%" in shown.err
    assert "| lp-ft |  |" in shown.out and "| fda | 1 |" in shown.out
    assert "| last | average | forgetting | Δ_LP panel | colours |" in shown.out
    files = sorted(tmp_path.glob("*.json"))
    assert [f.name.split("-seed0-")[0] for f in files] == ["fda-1", "lp-ft"]
    record: Any = read_record(files[0])
    summary = record.stream.summary
    assert summary["split"] == "hash80" and len(summary["class_order"]) == 200
    assert record.config["method"] == "fda" and record.config["where"]["data"] == "<data>"
    folder = files[0].with_suffix("")
    assert "FDA_alignment_Epoch" in (folder / "log.txt").read_text(encoding="utf-8")
    assert list((folder / "csv").glob("*.csv"))
    assert list((folder / "tensorboard").rglob("events*"))


def joined(shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A whole configuration, from what all runs share and what one has of its own."""
    both = [key for key in own if key in shared]
    return {**shared, **own, **{key: joined(shared[key], own[key]) for key in both}}


def test_dry_run_shows_the_configuration_the_stream_and_the_steps(
    data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call("--config", data / "mini.yaml", "--dry-run", "--out", tmp_path / "x") == 0
    printed = capsys.readouterr().out
    shared, *runs, summary = yaml.safe_load_all(printed)
    assert [r["method"] for r in runs] == ["lp-ft", "fda"] and runs[0]["steps"] == 10
    assert runs[1]["options"] == {"feature_module": "tower", "num_neighbors": 8}
    assert shared["stream"]["order"] == "pilot-1993" and "# the same in all 2 runs" in printed
    assert all("stream" not in run and "train" not in run for run in runs)
    configs = [job.config for job in fitted(planned(options("--config", str(data / "mini.yaml"))))]
    for run, config in zip(runs, configs, strict=True):
        own = {key: value for key, value in run.items() if key not in ("run", "steps")}
        assert joined(shared, own) == yaml.safe_load(yaml.safe_dump(plain(config)))
    shown = summary["stream_summary"]
    assert len(shown["split_sha256"]) == 64 and shown["class_order"][0] == 168
    assert (shown["train"], shown["validation"], shown["test"]) == (400, 200, 200)
    assert not (tmp_path / "x").exists()
    words = (
        "--config",
        data / "mini/fda.yaml",
        "--dry-run",
        "--seeds",
        1,
        2,
        "--set",
        "strength=3",
    )
    assert call(*words) == 0
    shared, *runs, _ = yaml.safe_load_all(capsys.readouterr().out)
    assert shared["strength"] == 3.0
    assert [[*r, r["seed"]] for r in runs] == [["run", "steps", "seed", seed] for seed in (1, 2)]


@pytest.mark.usefixtures("quick_processes")
def test_broken_images_are_scanned_for_dropped_or_stopped_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "stripes", ["one", "two", "three"], (32, 32), "RGB", 0)
    broken = [tmp_path / "stripes" / part for part in ("train/one/003.png", "test/two/000.png")]
    broken[0].write_bytes(broken[0].read_bytes()[:60])
    broken[1].write_bytes(b"")
    recipe = {
        "stream": {"kind": "sequence", "sets": ["folder:stripes"]},
        "head": {"kind": "random"},
        "train": {"batch": 12},
        "panel": {"sets": []},
        "where": {"data": str(tmp_path)},
    }
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert call("--config", file, "--scan") == 1
    shown = capsys.readouterr().out
    assert "48 images read, 2 of them broken" in shown
    for path in broken:
        assert str(path) in shown
    out = tmp_path / "out"
    assert call("--config", file, "--out", out) == 1
    shown = capsys.readouterr().err
    assert any(f"UnreadableImage: {path}" in shown for path in broken)
    (stopped,) = (read_record(path) for path in out.glob("*.json"))
    assert stopped.status == "failed" and "UnreadableImage: " in (stopped.reason or "")
    assert call("--config", file, "--out", out, "--on-corrupt", "drop") == 0
    (record,) = (r for r in map(read_record, out.glob("*.json")) if r.status == "finished")
    assert record.stream is not None
    found = [where.split()[-1] for where in record.stream.summary["dropped"]]
    assert sorted(found) == ["one/003.png", "two/000.png"] and record.stream.test == (11,)
    assert delta_lp(record) is None and delta_zs(record) is None and record.panel == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--methods", "fdaa"), "method='fdaa' is unknown"),
        (("--set", "method=fda"), "say --methods fda"),
        (("--set", "compare=[fda]"), "write a recipe with base: and compare in it"),
        (("--methods", "rift", "--set", "options.K=1"), "options.K is no argument of RIFTPlugin"),
        (("--methods", "fda", "--set", "options.num_neighbors=99"), "must be below the"),
        (("--seeds", "1", "1"), "each may be given once"),
        (("--strengths", "1", "--set", "stream.validation_share=0"), "set stream.validation_share"),
        (("--jobs", "0"), "--jobs 0: at least one"),
        (("--set", "seed"), "give key=value"),
        (("--set", "stream.num_experiences=7"), "num_experiences=7 must divide the 200 classes"),
        (("--set", "stream.root=nowhere"), "nowhere"),
        (("--set", "stream.order=pilot"), "order='pilot' is unknown"),
        (("--set", "backbone.name=timm:mobilenetv2_10"), "near ones: mobilenetv2_1"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(
    data: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        call("--config", data / "mini.yaml", "--out", tmp_path / "x", *words)
    assert not (tmp_path / "x").exists()


def test_weights_and_biases_gets_the_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wandb = pytest.importorskip("wandb")
    logged: list[tuple[dict[str, float], int]] = []
    ended: list[bool] = []

    class Run:
        def log(self, values: dict[str, float], step: int) -> None:
            logged.append((values, step))

        def finish(self) -> None:
            ended.append(True)

    def init(**given: Any) -> Run:
        assert given["config"]["method"] == "fda" and given["dir"] == str(tmp_path)
        return Run()

    monkeypatch.setattr(wandb, "init", init)
    own = {"where.loggers": ["wandb"]}
    config = load_recipe(RECIPES / "concepts.yaml").of_method("fda", own).config
    with open_loggers(config, tmp_path) as (logger,):
        logger.log_single_metric("Top1_Acc_Stream", 0.5, 7)
        logger.log_single_metric("picture", object(), 7)
    assert logged == [({"Top1_Acc_Stream": 0.5}, 7)] and ended == [True]
    with pytest.raises(ValueError, match="need a folder"), open_loggers(config, None):
        pass


def test_the_archive_is_fetched_once_and_checked(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = data / "imagenet-r.tar"
    where = [f"where.data={tmp_path}", f"where.url={archive.as_uri()}"]
    words = ("--config", data / "mini/fda.yaml", "--dry-run", "--set", *where)
    with pytest.raises(ValueError, match="give sha256 or md5"):
        call(*words)
    with pytest.raises(ValueError, match="damaged or another"):
        call(*words, "where.sha256=" + 32 * "ab")
    assert call(*words, "where.sha256=" + file_digest(archive, "sha256")) == 0
    assert (tmp_path / "imagenet-r.tar").stat().st_size == archive.stat().st_size
    with pytest.raises(ValueError, match=r"set stream\.root=imagenet-r\.tar"):
        call(*words, "stream.root=imagenet")


def test_overrides_and_strengths_reach_the_methods(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--methods", "fda", "--set", "options.num_neighbors=4", "--strengths", 1, 3)
    assert call("--config", data / "mini.yaml", "--dry-run", *words) == 0
    shared, *runs, _ = yaml.safe_load_all(capsys.readouterr().out)
    assert [r["strength"] for r in runs] == [1.0, 3.0] and shared["options"]["num_neighbors"] == 4


def test_a_method_needs_no_line_in_the_recipe(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--methods", "rift", "finetune", "--dry-run")
    assert call("--config", data / "mini.yaml", *words) == 0
    _, *runs, _ = yaml.safe_load_all(capsys.readouterr().out)
    assert [(r["method"], r["strength"]) for r in runs] == [("rift", 1.0), ("finetune", None)]
    assert [r["head"]["kind"] for r in runs] == ["probe", "random"]


def test_records_that_cannot_be_written_are_refused_at_the_start(
    data: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match="file"):
        call("--config", data / "mini.yaml", "--out", tmp_path / "file")


def test_a_recipe_of_one_method_has_no_others(data: Path) -> None:
    with pytest.raises(ValueError, match=r"fda\.yaml is the recipe of one method already"):
        call("--config", data / "mini/fda.yaml", "--methods", "lp-ft")


def test_help_lists_every_key_with_its_default() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    text = parser.format_help()
    made: Any = plain(Config())
    for part in ("backbone", "head", "train", "panel", "reference_data", "where"):
        for key, value in made[part].items():
            inner = value if (part, key) == ("backbone", "train") else {}
            for name in [f"{key}.{other}" for other in inner] or [key]:
                assert f"{part}.{name} = " in text, name
    for line in ("train.lr = 1.0e-05", "stream.order = pilot-1993", "stream.sets = (needed)"):
        assert line in text
    assert "None\n" not in text
