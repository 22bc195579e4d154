"""A record or a checkpoint of other weights, panel, reference data or order is not the run's."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from avalanche_proxyfda.checkpoint import CheckpointError
from benchmarks import __main__ as program
from benchmarks.config import Config, changed
from benchmarks.execution import built as built_module
from benchmarks.execution.job import Job
from benchmarks.execution.plan import checked_steps, known_steps
from benchmarks.experiment import data as data_module
from benchmarks.experiment.record import state_hash
from benchmarks.experiment.run import run
from benchmarks.results.files import read_record, write_record
from benchmarks.results.splits import same_split
from tests.benchmarks.execution.sweeps import finished_job, instead_of_processes
from tests.benchmarks.miniature import config, write_folder

TIMM = "timm:mobilenetv2_035"
Forget = Callable[[], None]


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> Forget:
    """Forgets the streams of this process, as a new process does."""

    def forget() -> None:
        monkeypatch.setattr(data_module, "_KEPT", OrderedDict())

    forget()
    return forget


def images(folder: Path, seed: int) -> None:
    write_folder(folder, ["a", "b"], (32, 32), "RGB", seed)


def write_weights(file: Path, seed: int) -> str:
    """Write random weights of the tower to a file, and return the tower's SHA-256."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(seed)
    tower = timm.create_model("mobilenetv2_035", num_classes=0)
    file.parent.mkdir(exist_ok=True)
    save_file(tower.state_dict(), file)
    return state_hash(tower)


def small(root: Path, **changes: Any) -> Config:
    """A run on a folder and a panel's folder, both outside of ``where.data``."""
    content: dict[str, Any] = {
        "method": "finetune",
        "head": {"kind": "random"},
        "train": {"lr": 1e-4, "batch": 8},
        "stream": {"kind": "sequence", "sets": [f"folder:{root}/own"]},
        "panel": {"sets": [f"folder:{root}/panel"], "train": 20, "test": 8},
        "where": {"data": f"{root}/data", "device": "cpu", "checkpoint_steps": 1},
    }
    return config(root, **{**content, **changes})


def with_weights(root: Path, file: Path, **changes: Any) -> Config:
    backbone = {"name": TIMM, "weights": str(file), "image_size": 32}
    return small(root, backbone=backbone, panel={"sets": []}, **changes)


def with_reference(root: Path, **reference: Any) -> Config:
    part = {"images": f"folder:{root}/reference", "batch": 8, **reference}
    options = {"reference_data": True, "feature_module": "tower"}
    return small(root, method="fda", strength=1.0, options=options, reference_data=part)


def state_now(first: Config, second: Config, folder: Path, forget: Forget) -> str:
    """Write the record of the first configuration; return its state as the second's record."""
    (job,) = known_steps([Job(first, folder)])
    assert job.data is not None
    write_record(job.file, finished_job(job))
    assert job.state() == "finished"
    forget()
    assert second.identity == first.identity
    ((now,), _) = checked_steps([Job(second, folder)])
    assert now.state() == known_steps([Job(second, folder)])[0].state()
    return now.state()


def stopped(made: Config, folder: Path) -> None:
    """Begin a run, and end it after its second step."""
    steps = [0]

    def stops(_: int) -> None:
        steps[0] += 1
        if steps[0] == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(made, stops, checkpoint=folder)


# ---- weights --------------------------------------------------------------------------------


def test_a_record_of_other_weights_is_refused(tmp_path: Path, new_process: Forget) -> None:
    images(tmp_path / "own", 0)
    for name, seed in (("x", 0), ("y", 1)):
        write_weights(tmp_path / name / "w.safetensors", seed)
    x, y = (with_weights(tmp_path, tmp_path / name / "w.safetensors") for name in "xy")
    reason = "refused: it is the record of other weights under the same name"
    assert state_now(x, y, tmp_path / "elsewhere", new_process) == reason
    assert state_now(x, x, tmp_path / "same", new_process) == "finished"
    (job,) = known_steps([Job(x, tmp_path / "in place")])
    write_record(job.file, finished_job(job))
    write_weights(tmp_path / "x/w.safetensors", 2)
    assert known_steps([Job(x, tmp_path / "in place")])[0].state() == reason


def test_a_run_with_other_weights_is_made_again(
    tmp_path: Path, new_process: Forget, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant = instead_of_processes(monkeypatch)
    images(tmp_path / "own", 0)
    recipe = {
        "stream": {"kind": "sequence", "sets": ["folder:own"]},
        "backbone": {"name": TIMM, "weights": "w.safetensors", "image_size": 32},
        "head": {"kind": "random"},
        "panel": {"sets": []},
        "train": {"batch": 8, "lr": 1e-4},
        "where": {"data": str(tmp_path), "device": "cpu"},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    words = ["run", "--config", str(tmp_path / "r.yaml"), "--methods", "finetune"]
    monkeypatch.setattr("sys.argv", ["benchmarks", *words, "--out", str(tmp_path / "out")])
    hashes = [write_weights(tmp_path / "w.safetensors", 0)]
    assert program.main() == program.main() == 0 and len(instant.ran) == 1
    hashes.append(write_weights(tmp_path / "w.safetensors", 1))
    new_process()
    assert program.main() == program.main() == 0 and len(instant.ran) == 2
    (file,) = (tmp_path / "out").glob("*.json")
    (aside,) = (tmp_path / "out").glob("*.refused")
    assert [read_record(path).initial_tower_sha256 for path in (aside, file)] == hashes


def test_the_hash_of_a_file_is_that_of_the_run_for_every_seed(tmp_path: Path) -> None:
    images(tmp_path / "own", 0)
    hashed = write_weights(tmp_path / "w.safetensors", 0)
    seeds = [changed(with_weights(tmp_path, tmp_path / "w.safetensors"), seed=k) for k in (0, 1)]
    jobs = known_steps([Job(seed, tmp_path) for seed in seeds])
    assert [job.data and job.data.tower for job in jobs] == [hashed] * 2
    record = run(seeds[1])
    assert record.initial_tower_sha256 == hashed
    write_record(jobs[1].file, record)
    assert jobs[1].state() == "finished"


@pytest.mark.parametrize("weights", ["random", None])
def test_weights_without_a_file_are_not_compared(tmp_path: Path, weights: str | None) -> None:
    images(tmp_path / "own", 0)
    backbone = {"name": TIMM, "weights": weights} if weights else {"name": "tiny-clip"}
    made = small(tmp_path, backbone=backbone, panel={"sets": []})
    seeds = [changed(made, seed=k) for k in (0, 1)]
    for job in known_steps([Job(seed, tmp_path) for seed in seeds]):
        assert job.data is not None and job.data.tower is None
        write_record(job.file, finished_job(job))
        assert job.state() == "finished"


def test_a_checkpoint_of_other_weights_is_refused(tmp_path: Path) -> None:
    images(tmp_path / "own", 0)
    file = tmp_path / "w.safetensors"
    hashed = write_weights(file, 0)
    made = with_weights(tmp_path, file)
    stopped(made, tmp_path / "c")
    before = file.read_bytes()
    write_weights(file, 1)
    words = r"the weights of the backbone \(backbone\.weights\) changed .* or delete .*/c to"
    with pytest.raises(CheckpointError, match=words):
        run(made, checkpoint=tmp_path / "c")
    file.write_bytes(before)
    record = run(made, checkpoint=tmp_path / "c")
    assert "2 steps" in (record.resumed_from or "") and record.initial_tower_sha256 == hashed


# ---- panel and reference data ---------------------------------------------------------------


def test_a_record_of_another_panel_is_refused(tmp_path: Path, new_process: Forget) -> None:
    for name, seed in (("x", 1), ("y", 2)):
        images(tmp_path / name / "own", 0)
        images(tmp_path / name / "panel", seed)
    x, y = (small(tmp_path / name) for name in "xy")
    assert state_now(x, y, tmp_path / "runs", new_process) == (
        "refused: it is the record of other images of the panel's panel under the same names"
    )


def test_a_record_of_other_reference_data_is_refused(tmp_path: Path, new_process: Forget) -> None:
    for name, seed in (("x", 2), ("y", 3)):
        images(tmp_path / name / "own", 0)
        images(tmp_path / name / "panel", 1)
        images(tmp_path / name / "reference", seed)
    x, y = (with_reference(tmp_path / name) for name in "xy")
    reason = "refused: it is the record of other reference data under the same names"
    assert state_now(x, y, tmp_path / "images", new_process) == reason
    text = tmp_path / "texts.txt"
    text.write_text("a cat\na dog\n", encoding="utf-8")
    made = with_reference(tmp_path / "x", texts=str(text))
    assert state_now(made, made, tmp_path / "same", new_process) == "finished"
    (job,) = known_steps([Job(made, tmp_path / "text")])
    write_record(job.file, finished_job(job))
    text.write_text("a cat\na fox\n", encoding="utf-8")
    assert known_steps([Job(made, tmp_path / "text")])[0].state() == reason


def test_a_checkpoint_of_other_reference_texts_is_refused(tmp_path: Path) -> None:
    images(tmp_path / "own", 0)
    images(tmp_path / "reference", 2)
    text = tmp_path / "texts.txt"
    text.write_text("a cat\na dog\n", encoding="utf-8")
    made = changed(with_reference(tmp_path, texts=str(text)), panel={"sets": ["colours"]})
    stopped(made, tmp_path / "c")
    text.write_text("a cat\na fox\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"the reference texts \(reference_data\.texts\)"):
        run(made, checkpoint=tmp_path / "c")
    text.write_text("a cat\na dog\n", encoding="utf-8")
    assert "2 steps" in (run(made, checkpoint=tmp_path / "c").resumed_from or "")


def test_planning_builds_one_model_for_methods_with_and_without_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("own", 0), ("panel", 1), ("reference", 2)):
        images(tmp_path / name, seed)
    built: list[str] = []
    prepare = built_module.prepare

    def counted(made: Config, only_check: bool) -> Any:
        built.append(made.method)
        return prepare(made, only_check)

    monkeypatch.setattr(built_module, "prepare", counted)
    plain, first = small(tmp_path), with_reference(tmp_path)
    second = changed(first, reference_data=replace(first.reference_data, count=10))
    configs = [plain, first, changed(first, seed=1), second, plain]
    jobs, _ = checked_steps([Job(made, tmp_path) for made in configs])
    found = [job.data and job.data.reference for job in jobs]
    assert built == ["finetune"]
    assert [about and about.images for about in found] == [None, 32, 32, 10, None]
    alone, _ = checked_steps([Job(second, tmp_path)])
    assert alone[0].data == jobs[3].data and built == ["finetune", "fda"]


# ---- the order of the data sets -------------------------------------------------------------


def two_sets(root: Path, *places: str, **changes: Any) -> Config:
    sets = [f"folder:{root}/{place}" for place in places]
    stream = {"kind": "sequence", "sets": sets}
    return small(root, stream=stream, panel={"sets": []}, **changes)


def test_the_other_order_of_two_sets_with_one_name_is_another_run(
    tmp_path: Path, new_process: Forget
) -> None:
    for name, seed in (("x", 0), ("y", 1)):
        images(tmp_path / name / "pets", seed)
    first = two_sets(tmp_path, "x/pets", "y/pets")
    second = two_sets(tmp_path, "y/pets", "x/pets")
    reason = "refused: it is the record of other images under the same names"
    assert state_now(first, second, tmp_path / "runs", new_process) == reason
    stopped(first, tmp_path / "c")
    with pytest.raises(CheckpointError, match=r"in their order \(stream\.sets\) changed"):
        run(second, checkpoint=tmp_path / "c")
    assert "2 steps" in (run(first, checkpoint=tmp_path / "c").resumed_from or "")


def test_swapped_folders_are_other_images(tmp_path: Path, new_process: Forget) -> None:
    images(tmp_path / "pets", 0)
    images(tmp_path / "birds", 1)
    made = two_sets(tmp_path, "pets", "birds")
    (job,) = known_steps([Job(made, tmp_path / "runs")])
    record = finished_job(job)
    write_record(job.file, record)
    (tmp_path / "pets").rename(tmp_path / "aside")
    (tmp_path / "birds").rename(tmp_path / "pets")
    (tmp_path / "aside").rename(tmp_path / "birds")
    new_process()
    (now,) = known_steps([job])
    assert now.state() == "refused: it is the record of other images under the same names"
    # an older record has no hash for each data set
    assert now.data is not None and record.stream is not None
    summary = dict(record.stream.summary)
    summary["sets"] = [{k: v for k, v in s.items() if k != "sha256"} for s in summary["sets"]]
    for kept in (summary, {"stream": "sequence"}):
        older = replace(record, stream=replace(record.stream, summary=kept))
        assert same_split(older, now.data.stream)
