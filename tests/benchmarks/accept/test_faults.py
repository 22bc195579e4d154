"""Each check of the acceptance fails where what it checks is broken."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda import EfficientNaive, ProxyFDALoss
from avalanche_proxyfda.checkpoint import Checkpoints
from benchmarks.accept import (
    environment,
    on_evaluation,
    on_losses,
    on_resume,
    on_runner,
    on_times,
    on_training,
)
from benchmarks.accept.check import Check, Fault, Setting, outcome_of
from benchmarks.accept.cores import all_cores
from benchmarks.accept.journal import Journal, machine_of
from benchmarks.accept.processes import run_within
from benchmarks.commands.work import accept
from benchmarks.config import load_recipe
from benchmarks.perf.counting import memory_of
from benchmarks.results.record import Record
from tests.benchmarks.records import finished

WHOLE = Setting(torch.device("cpu"))


def test_an_optimizer_that_never_steps_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "float32 0, bf16" in on_training._precisions("finetune", "growing", WHOLE)
    right = EfficientNaive.optimizer_step

    def never_in_bf16(self: Any, *args: Any, **kwargs: Any) -> Any:
        return None if self.precision == "bf16" else right(self, *args, **kwargs)

    monkeypatch.setattr(EfficientNaive, "optimizer_step", never_in_bf16)
    with pytest.raises(Fault, match=r"bf16 is 1, at most 0\.15"):
        on_training._precisions("finetune", "static", WHOLE)
    monkeypatch.setattr(EfficientNaive, "optimizer_step", lambda self, *a, **k: None)
    with pytest.raises(Fault, match="moves no weight"):
        on_training._precisions("finetune", "static", WHOLE)


def test_a_resume_that_begins_anew_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_resume._resume("plain", "ldifs", WHOLE) == "the same bits"
    monkeypatch.setattr(Checkpoints, "resume", lambda self: None)
    with pytest.raises(Fault, match="found None in place of a checkpoint"):
        on_resume._resume("plain", "ldifs", WHOLE)


def test_a_process_that_is_not_killed_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_resume, "run_within", lambda *given: (1, "no such device"))
    with pytest.raises(Fault, match="ended with status 1: no such device"):
        on_resume._killed(WHOLE)


def test_a_wrong_gradient_of_a_parameter_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    right = on_losses._with

    def wrong(loss: Any, inputs: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        found = right(loss, inputs)
        name = next(name for name in found if "generator" in name)
        if inputs[0].dtype == torch.float32:
            found[name] = found[name] * 1.01
        return found

    quick = Setting(torch.device("cpu"), quick=True)
    assert isinstance(ProxyFDALoss(4, 2).generator, torch.nn.Module)
    assert "at most" in on_losses._equals("proxy-fda", quick)
    monkeypatch.setattr(on_losses, "_with", wrong)
    with pytest.raises(Fault, match=r"gradient of generator\..* at B = 16"):
        on_losses._equals("proxy-fda", quick)


@pytest.mark.parametrize("name", on_losses.NAMES)
def test_the_bound_of_memory_is_below_a_cube(name: str) -> None:
    """[B, B, D] in float32 is above the bound of a loss that should hold [B, B] alone."""
    with memory_of(80 * 2**30), on_losses._small_chunks(name):
        most = on_losses._most_memory(name, 1024, torch.device("cpu"))
    assert most < 4 * 1024 * 1024 * on_losses.DIM / 4


@pytest.mark.parametrize("check", [on_evaluation._probe, on_evaluation._panel])
def test_an_evaluation_that_differs_from_the_cpu_fails(
    check: Callable[[Setting], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "accuracy" in check(WHOLE)
    calls: list[int] = []
    fit, panel = on_evaluation.fit_probe, on_evaluation.Panel.of

    def shuffled(features: Tensor, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return fit(features + 0.1 * (len(calls) > 1) * features.roll(1, 0), *args, **kwargs)

    def other(self: Any, model: Any, device: torch.device) -> Any:
        calls.append(1)
        with torch.no_grad():
            model.tower[0].weight.mul_(1.001 if len(calls) > 1 else 1.0)
        return panel(self, model, device)

    monkeypatch.setattr(on_evaluation, "fit_probe", shuffled)
    monkeypatch.setattr(on_evaluation.Panel, "of", other)
    with pytest.raises(Fault, match="from the CPU's: is"):
        check(WHOLE)


def with_accuracy(record: Record, value: float) -> Record:
    """Return the record with one value in the place of each accuracy."""
    assert record.outcome is not None
    rows = [[None if old is None else value for old in row] for row in record.outcome.accuracy]
    return replace(record, outcome=replace(record.outcome, accuracy=rows))


def test_a_run_that_learns_nothing_or_differs_fails() -> None:
    record = finished(load_recipe(on_runner.RECIPE).config)
    learned, worse = (with_accuracy(record, value) for value in (0.9, 0.5))
    assert on_runner._last(learned, 0.7) == "90.0% at the end"
    assert "at most 0.00 times" in on_runner._apart(learned, learned, "both")
    with pytest.raises(Fault, match=r"the accuracy at the end is 50\.0%, at least 70%"):
        on_runner._last(worse, 0.7)
    with pytest.raises(Fault, match=r"device and CPU: outcome\.accuracy.* is 0\.9 and 0\.5"):
        on_runner._apart(learned, worse, "device and CPU")


def lives(pid: int) -> bool:
    """Return False for a process that has ended, though its parent may not know it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the state of a process in /proc")
def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    script = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"subprocess.Popen([sys.executable, '-c', {child + '; time.sleep(60)'!r}])\n"
        "print('began', file=sys.stderr, flush=True); time.sleep(60)"
    )
    started = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.accept.processes._PATIENCE", 0.2)
        with pytest.raises(Fault, match=r"no end within 1\.5 s: began"):
            run_within([sys.executable, "-c", script], str(tmp_path), dict(os.environ), 1.5)
    assert time.monotonic() - started < 20
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    deadline = time.monotonic() + 10
    while lives(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not lives(pid)
    done = run_within([sys.executable, "-c", "raise SystemExit(3)"], str(tmp_path), {}, 60)
    assert done == (3, "")


class Crash(BaseException):
    """Ends a check without an outcome, as the end of its process does."""


def test_an_interrupt_is_no_end_of_the_process(tmp_path: Path) -> None:
    def run(setting: Setting) -> str:
        raise KeyboardInterrupt

    path, machine = tmp_path / "accept.json", machine_of(WHOLE)
    with pytest.raises(KeyboardInterrupt):
        accept._make([Check("a: long", run)], Journal(path, machine), WHOLE)
    assert Journal(path, machine).begun == {}


def test_a_check_in_which_processes_end_fails_at_the_third_start(tmp_path: Path) -> None:
    path, machine = tmp_path / "accept.json", machine_of(WHOLE)
    made: list[str] = []

    def run(setting: Setting) -> str:
        made.append("made")
        raise Crash

    checks = [Check("a: crash", run), Check("a: next", lambda setting: "fine")]
    for _ in range(accept.MOST_STARTS):
        with pytest.raises(Crash):
            accept._make(checks, Journal(path, machine), WHOLE)
    journal = Journal(path, machine)
    assert journal.begun == {"a: crash": 2} and accept._make(checks, journal, WHOLE)
    assert len(made) == 2 and journal.outcomes["a: next"].status == "passed"
    assert "ended 2 times within this check" in journal.outcomes["a: crash"].about
    assert Journal(path, machine).begun == {}
    assert Journal(path, {**machine, "code": "other"}).begun == {}


def test_a_device_that_no_longer_answers_ends_the_acceptance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(setting: Setting) -> str:
        raise Fault("an illegal memory access")

    journal = Journal(tmp_path / "accept.json", machine_of(WHOLE))
    checks = [Check("a: bad", run), Check("a: next", lambda setting: "fine")]
    assert accept._make(checks, journal, WHOLE) and len(journal.outcomes) == 2

    def gone(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "ones", gone)
    journal = Journal(tmp_path / "other.json", machine_of(WHOLE))
    assert not accept._make(checks, journal, WHOLE) and list(journal.outcomes) == ["a: bad"]


def test_a_precision_that_the_device_should_have_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(precision: str, device: torch.device) -> None:
        if precision == "fp16":
            raise ValueError("fp16 fails")

    monkeypatch.setattr(environment, "check_precision", check)
    monkeypatch.setattr(environment, "computes_bf16", lambda device: None)
    assert environment._precisions(WHOLE) == "float32, bf16"
    monkeypatch.setattr(environment, "computes_bf16", lambda device: True)
    outcome = outcome_of(Check("environment: precisions", environment._precisions), WHOLE)
    assert outcome.status == "failed" and "['bf16']" in outcome.about


@pytest.mark.parametrize("space", [None, 2**40, 2**26])
def test_loaders_have_processes_where_shared_memory_holds_their_batches(
    space: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_times, "shared_memory", lambda: space)
    monkeypatch.setattr(on_times, "workers_of", lambda kind: 8)
    assert on_times._workers(64, "cuda") == (0 if space == 2**26 else 8)


def test_references_take_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 5}, raising=False)
    torch.set_num_threads(1)
    try:
        with all_cores():
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
