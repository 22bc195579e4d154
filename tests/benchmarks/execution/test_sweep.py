"""Sweeps: which runs they make, what they leave alone, and how they survive."""

from __future__ import annotations

import argparse
import io
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from benchmarks.execution.sweep_progress import Progress, spoken
from benchmarks.execution.tasks import Settler, Task, execute
from rich.console import Console

from benchmarks.commands import sweep as command
from benchmarks.config import load_recipe
from benchmarks.execution import pool
from benchmarks.execution.matrix import FOLDER, load_matrix, tasks_of
from benchmarks.results.files import read_record, write_record
from benchmarks.results.record import Record
from tests.benchmarks.records import failed, finished

SMALL = {
    "streams": ["concepts.yaml"],
    "methods": ["lp-ft", "fda"],
    "seeds": [0, 1],
    "strengths": {"fda": [0.3, 1]},
    "set": {"train.epochs": 1, "stream.sets": ["digits"], "panel.sets": ["colours"]},
}


def write(folder: Path, **changes: Any) -> str:
    path = folder / "m.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    return str(path)


def options(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    return parser.parse_args(list(map(str, words)))


def call(*words: object) -> int:
    return command.main(options(*words))


def test_a_matrix_is_every_method_at_every_strength_with_every_seed(tmp_path: Path) -> None:
    tasks = tasks_of(load_matrix(write(tmp_path)), tmp_path)
    named = [(t.config.method, t.config.strength, t.config.seed) for t in tasks]
    one = [("lp-ft", None), ("fda", 0.3), ("fda", 1.0)]
    assert named == [(*pair, seed) for seed in (0, 1) for pair in one]  # whole seeds first
    assert all(t.config.train.epochs == 1 and t.folder == tmp_path / "concepts" for t in tasks)
    assert [t.selection.settings for t in tasks[:3]] == [1, 2, 2]
    assert [t.selection.data for t in tasks[:2]] == ["given", "validation"]
    for asked, count in (("grid", 12), ("coarse", 6), ("recipe", 4), ([0.5], 4)):
        assert len(tasks_of(load_matrix(write(tmp_path, strengths=asked)), tmp_path)) == count
    both = ["concepts.yaml", "pacs_mobilenet.yaml"]
    made = load_matrix(write(tmp_path, streams=both, methods=None, strengths="recipe", set={}))
    tasks = tasks_of(made, tmp_path)
    assert {t.folder.name for t in tasks} == {"concepts", "pacs_mobilenet"} and len(tasks) == 18


def test_the_shipped_matrices_load(tmp_path: Path) -> None:
    for path in FOLDER.glob("*.yaml"):
        assert tasks_of(load_matrix(path.name), tmp_path)
    assert len(tasks_of(load_matrix("concepts.yaml"), tmp_path)) == 105


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": ["fda"]}, r"'method' is not a key; did you mean 'methods'\?"),
        ({"methods": ["fdaa"]}, "method='fdaa' is unknown"),
        ({"strengths": {"fdaa": [1]}}, "method='fdaa' is unknown"),
        ({"strengths": "all"}, "strengths"),
        ({"strengths": []}, "strengths"),
        ({"strengths": {"fda": [1, 1]}}, "must hold different numbers"),
        ({"seeds": [0, 0]}, "each may be given once"),
        ({"seeds": [-1]}, "seeds"),
        ({"seeds": []}, "seeds"),
        ({"cpus": 0}, "cpus"),
        ({"streams": ["nowhere.yaml"]}, "is no file"),
        ({"set": {"seed": 3}}, r"set\.seed: say it by the matrix's seeds"),
        ({"streams": ["concepts.yaml", "recipes/concepts.yaml"]}, "two of them are the same"),
        ({"streams": ["concepts/fda.yaml"]}, "say --config concepts.yaml --methods fda"),
        ({"set": {"train.epoch": 1}}, r"did you mean 'train.epochs'\?"),
        (
            {"methods": ["fda"], "set": {"options.num_neighbor": 1}},
            r"concepts\.yaml: options\.num_neighbor .* did you mean 'num_neighbors'\?",
        ),
        (
            {"strengths": "coarse", "streams": ["imagenet_r.yaml"], "set": {}},
            "imagenet_r.yaml has no coarse of fda",
        ),
    ],
)
def test_bad_matrices(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        tasks_of(load_matrix(write(tmp_path, **changes)), tmp_path)


def test_the_recipe_of_one_method_is_no_stream(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("base: concepts.yaml\nmethod: fda")
    for methods, message in ((None, "list no methods"), (["fda"], "own.yaml is the recipe of one")):
        with pytest.raises(ValueError, match=message):
            tasks_of(load_matrix(write(tmp_path, streams=[str(own)], methods=methods)), tmp_path)


def test_a_matrix_that_is_no_file_and_bad_options(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there are .*concepts\.yaml"):
        load_matrix("nothing.yaml")
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(ValueError, match="must hold keys"):
        load_matrix(str(tmp_path / "list.yaml"))
    with pytest.raises(ValueError, match="--jobs 0"):
        call("--matrix", write(tmp_path), "--jobs", 0)
    with pytest.raises(ValueError, match="say --engine ray"):
        call("--matrix", write(tmp_path), "--address", "auto")
    with pytest.raises(ValueError, match="has runs 0 to 5"):
        call("--matrix", write(tmp_path), "--out", tmp_path, "--task", 6)


class Made:
    """In the place of processes: makes records at once, or fails, and counts."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fails: set[str] = set()
        self.stops: str | None = None

    def __call__(self, tasks: Any, jobs: int, threads: int, done: Any, stepped: Any) -> None:
        for task in tasks:
            if task.about == self.stops:
                raise KeyboardInterrupt
            self.ran.append(task.about)
            bad = task.about in self.fails
            done(task, RuntimeError("no more memory") if bad else finished(task.config))
            stepped(task.steps)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    fake = Made()
    monkeypatch.setattr(pool, "run_all", fake)
    return fake


def test_what_is_finished_is_left_alone_and_failures_are_retried_when_asked(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--matrix", write(tmp_path), "--out", tmp_path / "out")
    made.fails = {"fda, weight = 0.3, seed 0"}
    assert call(*words) == 1
    assert len(made.ran) == 6  # the failure stopped none
    shown = capsys.readouterr()
    assert "5 of 6 runs are finished" in shown.out and "no more memory" in shown.out
    assert "6 runs, of which 0 are finished" in shown.out
    made.ran, made.fails = [], set()
    assert call(*words) == 1 and made.ran == []
    assert "1 failed: --retry-failed runs those again" in capsys.readouterr().out
    assert call(*words, "--retry-failed") == 0 and made.ran == ["fda, weight = 0.3, seed 0"]
    files = sorted((tmp_path / "out" / "concepts").iterdir())
    assert len(files) == 6 and {read_record(f).status for f in files} == {"finished"}
    assert call(*words) == 0 and len(made.ran) == 1


def test_a_file_that_is_no_record_of_the_run_is_kept_aside(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--matrix", write(tmp_path), "--out", tmp_path)
    first, second, *_ = tasks_of(load_matrix(write(tmp_path)), tmp_path)
    write_record(first.file, finished(second.config))  # of another run
    second.file.write_text("{")
    assert call(*words) == 1 and len(made.ran) == 4
    shown = capsys.readouterr().out
    assert "the record of another run" in shown and "cut off" in shown
    assert call(*words, "--retry-failed") == 0 and len(made.ran) == 6
    assert second.file.with_name(f"{second.file.name}.refused").read_text() == "{"
    assert read_record(first.file).run_id == first.config.identity


def test_an_interrupt_leaves_what_is_finished(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--matrix", write(tmp_path), "--out", tmp_path / "out")
    made.stops = "fda, weight = 1, seed 0"
    assert call(*words) == 130
    assert "the same command goes on from there" in capsys.readouterr().out
    files = list((tmp_path / "out" / "concepts").iterdir())
    assert len(files) == 2 and all(read_record(f).status == "finished" for f in files)
    made.stops = None
    assert call(*words) == 0 and len(made.ran) == 6


def test_the_list_and_a_single_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.execution import tasks

    monkeypatch.setattr(tasks, "execute", lambda task: finished(task.config))
    words = ("--matrix", write(tmp_path), "--out", tmp_path / "out")
    assert call(*words, "--list") == 0
    assert not (tmp_path / "out").exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "   1  concepts  fda, weight = 0.3, seed 0: absent" and len(lines) == 6
    assert call(*words, "--task", 1) == 0
    assert call(*words, "--task", 1) == 0
    assert "finished already" in capsys.readouterr().out
    assert call(*words, "--list") == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("finished")

    def fails(task: Task) -> Record:
        raise MemoryError("no more")

    monkeypatch.setattr(tasks, "execute", fails)
    assert call(*words, "--task", 2) == 1
    (record,) = (read_record(f) for f in (tmp_path / "out/concepts").glob("fda-1-*.json"))
    assert record.status == "failed" and record.reason == "MemoryError: no more"
    assert call(*words, "--task", 2) == 1  # told, not run again
    monkeypatch.setattr(tasks, "execute", lambda task: finished(task.config))
    assert call(*words, "--task", 2, "--retry-failed") == 0


def test_a_stream_that_cannot_be_built_fails_its_own_runs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.execution.matrix import with_steps

    matrix = load_matrix(write(tmp_path, strengths={"fda": [1]}))
    tasks = tasks_of(matrix, tmp_path)
    lost = (
        load_recipe(
            FOLDER.parent / "recipes/pacs_mobilenet.yaml",
        )
        .of_method("lp-ft", {"where.data": str(tmp_path)})
        .config
    )
    made = with_steps([tasks[0], replace(tasks[0], config=lost)])
    assert made[0].steps > 0 and made[1].steps == 0
    settle = Settler()
    pool.run_all(made[1:], 1, 1, settle)
    failure = made[1].found()
    assert failure is not None and "FileNotFoundError" in (failure.reason or "")


def test_a_write_that_fails_stops_nothing_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.execution import tasks as module

    first, second, *_ = tasks_of(load_matrix(write(tmp_path)), tmp_path)
    settle, real = Settler(), module.write_record

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_record", full)
    settle(first, finished(first.config))
    assert "No space left" in capsys.readouterr().err and first.found() is None
    with pytest.raises(OSError, match="No space left"):
        settle.finish()
    monkeypatch.setattr(module, "write_record", real)
    settle(second, finished(second.config))
    settle.finish()
    assert first.found() == finished(first.config) and second.found() is not None


def test_a_failure_does_not_replace_a_finished_record(tmp_path: Path) -> None:
    task, *_ = tasks_of(load_matrix(write(tmp_path)), tmp_path)
    settle = Settler()
    settle(task, FileNotFoundError("caf\udce9.png"))  # a name that is not UTF-8
    left = task.found()
    assert left is not None and left.reason == "FileNotFoundError: caf\\udce9.png"
    settle(task, finished(task.config))
    settle(task, MemoryError("later"))
    assert task.found() == finished(task.config)


def test_what_a_run_raises_is_told_whatever_it_is(tmp_path: Path) -> None:
    task, *_ = tasks_of(load_matrix(write(tmp_path)), tmp_path)
    ended: list[Any] = []
    pool.run_all([task], 1, 1, lambda _, found: ended.append(found), work=refuses)
    assert str(ended[0]) == "TwoWordsError: seed 0 is refused"


def test_progress_tells_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.execution import sweep_progress as module

    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    tasks = [replace(t, steps=10) for t in tasks_of(load_matrix(write(tmp_path)), tmp_path)]
    text = io.StringIO()
    states = ["kept", *["left"] * 5]
    with Progress(tasks, states, Console(file=text, width=120)) as progress:
        assert progress.seconds_left is None
        clock[0] += 20
        progress.stepped(5)
        assert progress.seconds_left == pytest.approx(20 * 45 / 5)
        clock[0] += 20
        progress.stepped(5)
        progress.ended(tasks[1], finished(tasks[1].config))
        assert progress.seconds_left == pytest.approx(40 * 40 / 10)
        progress.ended(tasks[2], failed(tasks[2].config))
    assert "fda, weight = 0.3, seed 0: finished. 2 of 6 done, about 3 min left" in text.getvalue()
    assert "2 of 6 done, 1 failed" in text.getvalue()
    shown = io.StringIO()
    Console(file=shown, width=100).print(progress.table())
    assert "lp-ft" in shown.getvalue() and "failed" in shown.getvalue()
    assert [spoken(s) for s in (45, 720, 11100)] == ["45 s", "12 min", "3 h 05 min"]


def test_on_a_terminal_the_table_is_live(tmp_path: Path) -> None:
    tasks = tasks_of(load_matrix(write(tmp_path)), tmp_path)
    text = io.StringIO()
    console = Console(file=text, width=100, force_terminal=True)
    with Progress(tasks, ["left"] * 6, console) as progress:
        progress.ended(tasks[0], finished(tasks[0].config))
    shown = text.getvalue()
    assert "1 of 6 done" in shown and "lp-ft" in shown and "kept" in shown


# ---- both engines, for real ----


def killed_once(task: Task, jobs: int) -> Record:
    """A run whose worker is killed in its middle, the first time."""
    steps = 0

    def stepped() -> None:
        nonlocal steps
        steps += 1
        marker = task.folder / "killed"
        if steps == 5 and task.config.method == "fda" and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return execute(task, stepped, jobs)


def always_killed(task: Task, jobs: int) -> Record:
    (task.folder / f"try-{os.getpid()}").touch()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.timeout(600)
def test_ray_and_processes_give_the_same_records_though_a_worker_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    from benchmarks.execution.ray_engine import run_on_ray

    from benchmarks.execution import ray_engine

    matrix = write(tmp_path, seeds=[0], strengths={"fda": [0.3]})
    assert call("--matrix", matrix, "--out", tmp_path / "local", "--jobs", 2) == 0
    tasks = tasks_of(load_matrix(matrix), tmp_path / "ray")
    tasks[0].folder.mkdir(parents=True)
    settle = Settler()
    root = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": path, "TQDM_DISABLE": "1"}},
    )
    try:
        run_on_ray(tasks, 1, 0, None, settle, killed_once)
        with pytest.raises(ValueError, match=r"no node of the cluster has as many .* 2 CPUs"):
            run_on_ray(tasks, 3, 0, None, lambda *_: None)
        ended: list[Any] = []
        monkeypatch.setattr(ray_engine, "RETRIES", 1)  # each is a process that imports torch
        run_on_ray(tasks[:1], 1, 0, None, lambda _, found: ended.append(found), always_killed)
        run_on_ray(
            [replace(tasks[0], config=replace(tasks[0].config, seed=9))],
            1,
            0,
            None,
            lambda _, found: ended.append(found),
            refuses,
        )
    finally:
        ray.shutdown()
    assert (tasks[0].folder / "killed").exists()
    for task in tasks:
        own = task.found()
        other = read_record(tmp_path / "local" / "concepts" / task.file.name)
        assert own is not None and own.reproducible() == other.reproducible()
        assert own.how.command == other.how.command and own.how.machine.jobs == 2
    assert "its worker died 2 times" in str(ended[0])
    assert len(list(tasks[0].folder.glob("try-*"))) == 2
    assert str(ended[1]) == "TwoWordsError: seed 9 is refused"


def refuses(task: Task, jobs: int) -> Record:
    raise TwoWordsError(f"seed {task.config.seed}", "is refused")


class TwoWordsError(Exception):
    """Cannot be pickled: its arguments are not those of its making."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def test_ray_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'avalanche-proxyfda\[ray\]'"):
        call("--matrix", write(tmp_path), "--out", tmp_path / "out", "--engine", "ray")
