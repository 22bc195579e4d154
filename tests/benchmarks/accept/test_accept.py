"""The acceptance: its outcomes, its report, and that a fault of the machine is seen."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda import FDALoss
from avalanche_proxyfda.teacher.cache.store import FeatureStore
from benchmarks import __main__ as command_line
from benchmarks.accept import on_caches, on_losses, on_runner, on_times, on_training
from benchmarks.accept.check import Check, Fault, Setting, Skip, outcome_of, relative, within
from benchmarks.accept.groups import GROUPS
from benchmarks.accept.journal import Journal, machine_of
from benchmarks.accept.table import table
from benchmarks.commands.work import accept

CPU = Setting(torch.device("cpu"), quick=True)


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], int]:
    """Return the command line as a function of its words."""

    def call(words: list[str]) -> int:
        monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
        return command_line.main()

    return call


def failing(error: Exception) -> Any:
    def run(setting: Setting) -> str:
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "status", "about"),
    [
        (lambda setting: "3 launches", "passed", "3 launches"),
        (failing(Skip("no GPU")), "skipped", "no GPU"),
        (failing(Fault("5, at most 3")), "failed", "5, at most 3"),
        (failing(RuntimeError("two\nlines")), "failed", "RuntimeError: two lines"),
    ],
)
def test_outcomes(run: Any, status: str, about: str) -> None:
    outcome = outcome_of(Check("group: one", run), CPU)
    assert (outcome.status, outcome.about) == (status, about)
    assert ("two" in outcome.trace) == about.startswith("RuntimeError")


def test_a_value_that_is_not_finite_is_above_every_bound() -> None:
    nan = relative(torch.tensor([1.0, float("inf")]), torch.tensor([1.0, 2.0]))
    with pytest.raises(Fault, match="difference is nan, at most 1"):
        within("difference", nan, 1.0)
    assert relative(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0])) == 0.5


def test_names_are_unique_and_groups_are_known() -> None:
    checks = [check for module in accept.MODULES for check in module.checks()]
    names = [check.name for check in checks]
    assert len(set(names)) == len(names) > 80
    assert all(check.group and check.name != check.group for check in checks)
    assert tuple(dict.fromkeys(check.group for check in checks)) == GROUPS


def test_a_cut_acceptance_goes_on_and_repeats_failures(tmp_path: Path) -> None:
    path, machine = tmp_path / "accept.json", machine_of(CPU)
    first = Journal(path, machine)
    for name, run in (("a: good", lambda setting: "fine"), ("a: bad", failing(Fault("broken")))):
        first.add(outcome_of(Check(name, run), CPU))
    assert list(Journal(path, machine).outcomes) == ["a: good"]
    assert Journal(path, {**machine, "code": "other"}).outcomes == {}
    assert Journal(path, machine, again=True).outcomes == {}
    text = table(machine, first.outcomes.values())
    assert "| a: bad | **failed** | broken |" in text and "quick" in text


@pytest.mark.parametrize("content", ["[]", "{", '{"machine": 1}'])
def test_another_file_is_not_overwritten(content: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"no report of an acceptance.*--again"):
        Journal(path, machine_of(CPU))
    assert path.read_text(encoding="utf-8") == content


def test_the_command_on_a_cpu(
    tmp_path: Path, main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["accept", "--quick", "--device", "cpu", "--out", str(tmp_path / "a.json")]
    assert main([*command, "--only", "environment", "losses"]) == 0
    printed = capsys.readouterr().out
    assert "cannot be checked on a CPU" in printed
    assert "| losses: fda equals float64 | passed |" in printed
    outcomes = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["outcomes"]
    assert {each["status"] for each in outcomes} == {"passed", "skipped"}
    assert main([*command, "--only", "los"]) == 2
    assert "the groups are environment, losses, training" in capsys.readouterr().err
    assert main(["accept", "--device", "nonsense"]) == 2


class Begun(Exception):  # noqa: N818 (no error)
    """Ends a check at the first use of its device."""


def test_every_check_runs_on_the_device_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    second = Setting(torch.device("cuda:1"))
    devices: list[str] = []

    def begun(*given: Any) -> Any:
        devices.append(getattr(given[-1], "device", given[-1]))
        raise Begun

    monkeypatch.setattr(on_losses, "Case", begun)
    monkeypatch.setattr(on_losses, "peak_memory", lambda device: 0)
    monkeypatch.setattr(on_losses, "can_refuse_waits", lambda device: True)
    monkeypatch.setattr(on_times, "Bench", begun)
    monkeypatch.setattr(on_times.loaders, "measure", begun)
    named = [check for check in on_losses.checks() if check.name.startswith("losses: fda")]
    for check in (*named[2:], *on_times.checks()[:2]):
        with pytest.raises(Begun):
            check.run(second)
    assert devices == ["cuda:1"] * 5
    monkeypatch.setattr(on_runner, "run", lambda config: begun(torch.device(config.where.device)))
    with pytest.raises(Begun):
        on_runner._run("fda", second)
    assert devices[-1] == torch.device("cuda:1")


@pytest.mark.skipif(torch.__version__ < (2, 11), reason="torch 2.6 cannot compile the hooks")
@pytest.mark.parametrize("factor", [1, 2])
def test_a_compiled_tower_that_computes_something_else_fails(
    monkeypatch: pytest.MonkeyPatch, factor: int
) -> None:
    class Compiler:
        def __init__(self, backend: str) -> None:
            assert backend == "inductor"
            self.frame_count = 0

        def __call__(self, graph: Any, inputs: Any) -> Any:
            self.frame_count += 1
            return lambda *given: type(ends := graph(*given))(end * factor for end in ends)

    monkeypatch.setattr(on_training, "CompileCounterWithBackend", Compiler)
    monkeypatch.setattr(on_training.shutil, "which", lambda name: name)
    setting = Setting(torch.device("cpu"))
    if factor == 1:
        assert re.match("weights, from .* 0$", on_training._compiled("ldifs", setting))
    else:
        with pytest.raises(Fault, match=r"uncompiled tower: is .*, at most 0.01"):
            on_training._compiled("ldifs", setting)


def test_a_compiled_tower_needs_a_compiler_that_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(torch.device("cpu"))
    monkeypatch.setattr(on_training.shutil, "which", lambda name: name)
    monkeypatch.setattr(nn.Module, "compile", lambda module, backend: None)
    with pytest.raises(Fault, match="compiled nothing of the tower"):
        on_training._compiled("ldifs", setting)
    monkeypatch.setattr(on_training.shutil, "which", lambda name: None)
    with pytest.raises(Skip, match=r"needs a C\+\+ compiler"):
        on_training._compiled("ldifs", setting)


def test_a_peak_that_counts_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("peak_memory", "allocated_memory"):
        monkeypatch.setattr(on_losses, name, lambda device: 5)
    monkeypatch.setattr(on_losses, "reset_peak_memory", lambda device: None)
    with pytest.raises(Fault, match="no memory was counted"):
        on_losses._peak("fda", CPU)


def test_a_wrong_loss_fails(
    tmp_path: Path,
    main: Callable[[list[str]], int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    right = FDALoss.forward

    def wrong(self: FDALoss, student: Tensor, teacher: Tensor) -> Any:
        value = right(self, student, teacher)
        return value * 1.001 if student.dtype == torch.float32 else value

    monkeypatch.setattr(FDALoss, "forward", wrong)
    outcome = outcome_of(Check("losses: fda", lambda s: on_losses._equals("fda", s)), CPU)
    assert outcome.status == "failed" and "relative difference" in outcome.about
    command = ["accept", "--quick", "--device", "cpu", "--out", str(tmp_path / "a.json")]
    assert main([*command, "--only", "losses"]) == 1
    assert "failed: losses: fda equals float64" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["fda", "lwf"])
def test_a_cache_that_mixes_up_its_rows_fails(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Setting(torch.device("cpu"))
    assert "live teacher: 0" in on_caches._cache(method, 0, whole)
    right = FeatureStore.gather

    def wrong(self: FeatureStore, names: Sequence[bytes], device: torch.device) -> Any:
        return {key: rows.roll(1, 0) for key, rows in right(self, names, device).items()}

    monkeypatch.setattr(FeatureStore, "gather", wrong)
    with pytest.raises(Fault, match="from those with a live teacher"):
        on_caches._cache(method, 0, whole)


def test_auto_says_that_the_cpu_is_checked(
    tmp_path: Path,
    main: Callable[[list[str]], int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(accept, "best_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(accept, "DRIVERS", (str(tmp_path / "absent"),))
    command = ["accept", "--quick", "--only", "environment", "--out", str(tmp_path / "a.json")]
    assert main(command) == 0
    assert "no accelerator, so the CPU is checked" in capsys.readouterr().err
    assert main([*command, "--device", "cpu"]) == 0
    assert "no accelerator" not in capsys.readouterr().err
    monkeypatch.setattr(accept, "DRIVERS", (str(tmp_path),))  # a driver is there
    assert main(command) == 2
    assert "cannot use it: --device cuda says why" in capsys.readouterr().err
    assert main([*command, "--device", "cpu"]) == 0
