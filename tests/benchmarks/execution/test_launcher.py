"""The launcher: which jobs run, how their records settle, and what the display shows."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.config import load_recipe
from benchmarks.execution import display as display_module
from benchmarks.execution import settle as settle_module
from benchmarks.execution.display import Display, spoken
from benchmarks.execution.job import Job
from benchmarks.execution.launcher import Launched, launch
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.matrix import FOLDER
from benchmarks.execution.plan import known_steps
from benchmarks.execution.policy import Policy
from benchmarks.execution.settle import Settler
from benchmarks.methods import registry
from benchmarks.results.files import read_record, write_record
from benchmarks.results.record import Selection
from tests.benchmarks.execution.sweeps import InstantExecutor, small_jobs
from tests.benchmarks.records import failed, finished

# ---- which jobs run --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "due"),
    [
        (Policy(), {"absent", "stale", "failed", "refused: cut off"}),
        (Policy(retry_failed=False), {"absent", "stale"}),
        (Policy(resume=False), {"absent", "stale", "failed", "refused: cut off", "finished"}),
        (
            Policy(resume=False, retry_failed=False),
            {"absent", "stale", "failed", "refused: cut off", "finished"},
        ),
    ],
)
def test_the_policy_says_which_states_run_again(policy: Policy, due: set[str]) -> None:
    states = ("absent", "stale", "failed", "refused: cut off", "finished")
    assert {state for state in states if policy.is_due(state)} == due


def new_version(patch: pytest.MonkeyPatch, method: str) -> None:
    patch.setitem(
        registry.METHODS,
        method,
        replace(registry.METHODS[method], version=registry.METHODS[method].version + 1),
    )


def test_a_kept_record_has_the_selection_of_the_command_with_most_settings(tmp_path: Path) -> None:
    """A run that was alone is one of three strengths now; its numbers stay."""
    (alone,) = small_jobs(tmp_path, seeds=[0], methods=["fda"], strengths="recipe")
    before = replace(finished(alone.config), selection=Selection("given", 1))
    write_record(alone.file, before)
    three: dict[str, Any] = {"seeds": [0], "methods": ["fda"], "strengths": {"fda": [0.3, 1, 3]}}
    jobs = small_jobs(tmp_path, **three)
    (again,) = (job for job in jobs if job.file == alone.file)
    executor = InstantExecutor()
    assert launch(jobs, tmp_path, executor, Policy()).status == 0
    assert len(executor.ran) == 2 and again.about not in executor.ran
    after = read_record(alone.file)
    assert after == replace(before, selection=Selection("validation", 3))
    assert list(tmp_path.rglob("*.tmp")) == []
    assert launch([alone], tmp_path, executor, Policy()).records == (after,)  # fewer settings
    assert read_record(alone.file) == after and len(executor.ran) == 2


def test_a_stale_record_runs_again_and_a_finished_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, executor = small_jobs(tmp_path, seeds=[0]), InstantExecutor()

    def launched(policy: Policy) -> Launched:
        executor.ran.clear()
        return launch(jobs, tmp_path, executor, policy)

    assert launched(Policy()).status == 0 and len(executor.ran) == 3
    end = launched(Policy())
    assert executor.ran == [] and end.status == 0
    assert end.records == tuple(finished(job.config) for job in jobs)
    assert launched(Policy(resume=False)).status == 0 and len(executor.ran) == 3
    new_version(monkeypatch, "lp-ft")
    assert [job.state() for job in jobs] == ["stale", "finished", "finished"]
    launched(Policy(retry_failed=False))
    assert executor.ran == [jobs[0].about]


def test_one_run_is_counted_in_the_singular(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs, executor = small_jobs(tmp_path, seeds=[0]), InstantExecutor()
    launch(jobs[:1], tmp_path, executor, Policy())
    shown = capsys.readouterr().out
    assert shown.startswith("1 run, of which 0 are finished")
    assert "1 of 1 run is finished." in shown
    executor.fails = {jobs[1].about}
    launch(jobs[:2], tmp_path, executor, Policy())
    shown = capsys.readouterr().out
    assert shown.startswith("2 runs, of which 1 is finished")
    assert "1 is finished and kept; --no-resume runs it again." in shown
    assert "1 of 2 runs is finished." in shown
    launch(jobs, tmp_path, executor, Policy(retry_failed=False))
    assert "1 failed: --retry-failed runs it again." in capsys.readouterr().out
    launch(jobs, tmp_path, executor, Policy(retry_failed=False))
    shown = capsys.readouterr().out
    assert "2 are finished and kept; --no-resume runs them again." in shown
    assert "2 of 3 runs are finished." in shown


@pytest.mark.parametrize("compiled", [False, True])
def test_a_compiled_tower_is_announced_because_the_bar_stands_still(
    compiled: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = small_jobs(tmp_path, seeds=[0], set={"train.compile": compiled})
    launch(jobs, tmp_path, InstantExecutor(), Policy())
    assert ("The bar may stand still for minutes" in capsys.readouterr().out) is compiled
    launch(jobs, tmp_path, InstantExecutor(), Policy())  # all are finished
    assert "The bar may stand still" not in capsys.readouterr().out


def test_a_run_that_fails_this_time_is_not_counted_as_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs, executor = small_jobs(tmp_path, seeds=[0]), InstantExecutor()
    launch(jobs, tmp_path, executor, Policy())
    executor.fails = {jobs[1].about}
    end = launch(jobs, tmp_path, executor, Policy(resume=False))
    assert end.status == 1 and len(end.records) == 2
    shown = capsys.readouterr().out
    assert "2 of 3 runs are finished" in shown
    assert f"{jobs[1].about}: failed: RuntimeError: no more memory" in shown
    assert jobs[1].finished() is not None  # the earlier record stays
    new_version(monkeypatch, "fda")
    end = launch(jobs, tmp_path, executor, Policy())
    assert end.status == 1 and len(end.records) == 2


def test_beginning_anew_deletes_checkpoints(tmp_path: Path) -> None:
    jobs, executor = small_jobs(tmp_path, seeds=[0]), InstantExecutor()
    executor.stops = jobs[0].about
    for policy, there in ((Policy(), True), (Policy(resume=False), False)):
        jobs[0].checkpoint.mkdir(parents=True, exist_ok=True)
        (jobs[0].checkpoint / "checkpoint.safetensors").write_bytes(b"")
        assert launch(jobs, tmp_path, executor, policy).status == 130
        assert (jobs[0].checkpoint / "checkpoint.safetensors").exists() is there


def test_other_ranks_report_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rank 0 decides which jobs run, for the folder of another rank may be another."""
    for name, value in (("RANK", "1"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)

    def broadcast(values: list[Any], src: int) -> None:
        assert src == 0 and values == [None]
        values[0] = ["finished", "absent", "finished"]

    monkeypatch.setattr("torch.distributed.broadcast_object_list", broadcast)
    executor, ran = InstantExecutor(), []
    monkeypatch.setattr(executor, "run", lambda jobs, *_: ran.extend(jobs))
    jobs = small_jobs(tmp_path, seeds=[0])
    assert launch(jobs, tmp_path, executor, Policy()) == Launched((), 0)
    assert ran == [jobs[1]] and "are finished. Took" not in capsys.readouterr().out


@pytest.mark.usefixtures("quick_processes")
def test_a_stream_that_cannot_be_built_fails_its_own_runs_alone(tmp_path: Path) -> None:
    jobs = small_jobs(tmp_path, strengths={"fda": [1]})
    recipe = load_recipe(FOLDER.parent / "recipes/pacs_mobilenet.yaml")
    lost = recipe.of_method("lp-ft", {"where.data": str(tmp_path)}).config
    counted = known_steps([jobs[0], replace(jobs[0], config=lost)])
    assert counted[0].steps > 0 and counted[1].steps == 0
    settle = Settler()
    LocalExecutor(1, 1).run(counted[1:], settle, lambda _: None)
    failure = counted[1].record()
    assert failure is not None and "FileNotFoundError" in (failure.reason or "")


# ---- records ---------------------------------------------------------------------------


def test_a_write_that_fails_stops_nothing_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = small_jobs(tmp_path)
    settle, real = Settler(), settle_module.write_record

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(settle_module, "write_record", full)
    settle(first, finished(first.config))
    assert "No space left" in capsys.readouterr().err and first.record() is None
    with pytest.raises(OSError, match="No space left"):
        settle.finish()
    monkeypatch.setattr(settle_module, "write_record", real)
    settle(second, finished(second.config))
    settle.finish()
    assert first.record() == finished(first.config) and second.record() is not None


def test_a_record_that_cannot_be_written_keeps_no_other_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = small_jobs(tmp_path)
    settle, real = Settler(), settle_module.write_record
    blocked = [first.file, second.file]

    def partly_full(path: Path, record: Any) -> None:
        if path in blocked:
            raise OSError(28, "No space left on device")
        real(path, record)

    monkeypatch.setattr(settle_module, "write_record", partly_full)
    for job in (first, second):
        settle(job, finished(job.config))
    blocked.remove(second.file)
    with pytest.raises(OSError, match="No space left"):
        settle.finish()
    assert first.record() is None and second.record() is not None
    blocked.clear()
    settle.finish()
    assert first.record() is not None


def test_a_failure_does_not_replace_a_finished_record(tmp_path: Path) -> None:
    job, *_ = small_jobs(tmp_path)
    settle = Settler()
    settle(job, FileNotFoundError("caf\udce9.png"))  # a name that is not UTF-8
    left = job.record()
    assert left is not None and left.reason == "FileNotFoundError: caf\\udce9.png"
    settle(job, finished(job.config))
    settle(job, MemoryError("later"))
    assert job.record() == finished(job.config)


# ---- display ---------------------------------------------------------------------------


def with_steps(jobs: list[Job], steps: int) -> list[Job]:
    return [replace(job, steps=steps) for job in jobs]


def test_steps_of_an_earlier_process_say_nothing_of_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed after 90 of 100 steps: 20 s for five steps more, so 20 s are left."""
    clock = [100.0]
    monkeypatch.setattr(display_module.time, "monotonic", lambda: clock[0])
    jobs = with_steps(small_jobs(tmp_path)[:1], 100)
    with Display(jobs, jobs, Console(file=io.StringIO(), width=120)) as display:
        display.stepped(-90)
        assert display.seconds_left is None
        clock[0] += 20
        display.stepped(5)
        assert display.seconds_left == pytest.approx(20)


def test_progress_tells_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(display_module.time, "monotonic", lambda: clock[0])
    jobs = with_steps(small_jobs(tmp_path), 10)
    write_record(jobs[0].file, finished(jobs[0].config))
    text = io.StringIO()
    with Display(jobs, jobs[1:], Console(file=text, width=120)) as display:
        assert display.seconds_left is None
        clock[0] += 20
        display.stepped(5)
        assert display.seconds_left == pytest.approx(20 * 45 / 5)
        clock[0] += 20
        display.stepped(5)
        display.ended(jobs[1], finished(jobs[1].config))
        assert display.seconds_left == pytest.approx(40 * 40 / 10)
        display.ended(jobs[2], failed(jobs[2].config))
    assert "fda, weight = 0.3, seed 0: finished. 2 of 6 done, about 3 min left" in text.getvalue()
    assert "2 of 6 done, 1 failed" in text.getvalue()
    shown = io.StringIO()
    Console(file=shown, width=100).print(display.table())
    assert "lp-ft" in shown.getvalue() and "failed" in shown.getvalue()
    assert [spoken(s) for s in (45, 720, 11100)] == ["45 s", "12 min", "3 h 05 min"]


def test_on_a_terminal_the_table_is_live(tmp_path: Path) -> None:
    jobs = small_jobs(tmp_path)
    text = io.StringIO()
    console = Console(file=text, width=100, force_terminal=True)
    with Display(jobs, jobs, console) as display:
        display.ended(jobs[0], finished(jobs[0].config))
    shown = text.getvalue()
    assert "1 of 6 done" in shown and "lp-ft" in shown and "kept" in shown


def test_the_bar_ends_full_though_an_executor_counts_no_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *rest = small_jobs(tmp_path)
    jobs = with_steps([first, second], 10)
    with Display([*jobs, *rest], jobs, Console(file=io.StringIO())) as display:
        display.stepped(3)
        for job in jobs:
            display.ended(job, finished(job.config))
    assert "steps: 100%" in capsys.readouterr().err


@pytest.mark.parametrize(("terminal", "least", "most"), [(True, 12, 40), (False, 2, 4)])
def test_a_log_gets_few_states_of_the_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, least: int, most: int
) -> None:
    """Thirty steps, one every two seconds: in a log the first state, the last, and one a minute."""

    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    clock = [100.0]
    monkeypatch.setattr(display_module.sys, "stderr", Stream())
    monkeypatch.setattr(display_module.time, "monotonic", lambda: clock[0])
    jobs = with_steps(small_jobs(tmp_path)[:1], 30)
    with Display(jobs, jobs, Console(file=io.StringIO())) as display:
        display._bar._time = lambda: clock[0]
        display._bar.last_print_t = display._bar.start_t = clock[0]
        for _ in range(30):
            clock[0] += 2
            display.stepped(1)
    states = display_module.sys.stderr.getvalue().count("steps: ")
    assert least <= states <= most


def test_earlier_records_are_shown_as_kept_or_failed(tmp_path: Path) -> None:
    jobs = small_jobs(tmp_path)
    write_record(jobs[0].file, finished(jobs[0].config))
    write_record(jobs[1].file, failed(jobs[1].config))
    with Display(jobs, jobs[2:], Console(file=io.StringIO())) as display:
        assert display.summary() == "1 of 6 done, 1 failed"
    assert read_record(jobs[1].file).status == "failed"
