"""No method's numbers change without its version: every method against its golden numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda import FDALoss
from benchmarks.methods.registry import METHODS
from tests.golden.run import (
    TOLERANCE,
    Golden,
    difference,
    main,
    number_problem,
    read,
    version_problem,
    write,
)
from tests.golden.toy import EXPERIENCES, STEPS, Numbers, toy_run

GOLDEN = read()
PROBED = "lp-ft"
"""Plain fine-tuning from the same heads as the methods'."""


def raised(monkeypatch: pytest.MonkeyPatch, method: str, by: int) -> None:
    """Give ``method`` another version in the registry."""
    version = METHODS[method].version + by
    monkeypatch.setitem(METHODS, method, dataclasses.replace(METHODS[method], version=version))


def shifted(numbers: Numbers) -> Numbers:
    """The same numbers with a last loss that is a thousandth larger."""
    return dataclasses.replace(numbers, losses=(*numbers.losses[:-1], numbers.losses[-1] * 1.001))


# ---- every method ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_numbers_are_those_of_the_version(method: str) -> None:
    problem = version_problem(method, GOLDEN)
    assert problem is None, problem
    problem = number_problem(method, GOLDEN[method].numbers, toy_run(method))
    assert problem is None, problem


def test_the_file_holds_whole_runs_of_the_methods_of_the_registry() -> None:
    assert list(GOLDEN) == list(METHODS), "run python -m tests.golden.run"
    assert {len(kept.numbers.losses) for kept in GOLDEN.values()} == {EXPERIENCES * STEPS}


# ---- every method shows in its numbers ------------------------------------------------------


@pytest.mark.parametrize("method", [name for name in GOLDEN if name != PROBED])
def test_the_losses_are_not_those_of_plain_fine_tuning(method: str) -> None:
    plain, own = GOLDEN[PROBED].numbers, GOLDEN[method].numbers
    for before, now in zip(plain.losses[STEPS:], own.losses[STEPS:], strict=True):
        if method == "magmax":  # training goes on from the weights before merging
            assert now == pytest.approx(before, rel=TOLERANCE)
            continue
        assert now != pytest.approx(before, rel=1e-4)
    assert own.norm != pytest.approx(plain.norm, rel=1e-5)


@pytest.mark.parametrize("method", ["lwf", "wise-ft"])
def test_what_acts_on_the_past_leaves_the_first_experience_alone(method: str) -> None:
    plain, own = GOLDEN[PROBED].numbers, GOLDEN[method].numbers
    assert own.losses[:STEPS] == pytest.approx(plain.losses[:STEPS], rel=TOLERANCE)


@pytest.mark.parametrize("method", [name for name in GOLDEN if METHODS[name].knob])
def test_a_ten_thousandth_of_the_strength_is_reported(method: str) -> None:
    more = 1e-3 if method == "magmax" else 1e-4  # MagMax shows in the last norm alone
    assert difference(GOLDEN[method].numbers, toy_run(method, factor=1 + more)) is not None


# ---- the guard ------------------------------------------------------------------------------


def test_a_changed_loss_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = FDALoss.forward

    def changed(self: FDALoss, student: Tensor, teacher: Tensor) -> Tensor:
        return forward(self, student, teacher) * (1 + 1e-4)

    monkeypatch.setattr(FDALoss, "forward", changed)
    problem = number_problem("fda", GOLDEN["fda"].numbers, toy_run("fda"))
    assert problem is not None
    assert problem.startswith("the numbers of fda changed (loss of step 1: ")
    assert problem.endswith(
        "if that is meant, raise its version in benchmarks/methods/registry.py and run "
        "python -m tests.golden.run"
    )


def test_what_is_compared() -> None:
    kept = Numbers((1.0, 2.0), 3.0)
    assert difference(kept, Numbers((1.0, 2.0 * (1 + 9e-7)), 3.0)) is None
    assert difference(kept, Numbers((1.0, 2.1), 3.0)) == "loss of step 2: 2.1 instead of 2.0"
    assert difference(kept, Numbers((1.0, 2.0), 3.1)) == "norm of the weights: 3.1 instead of 3.0"
    assert difference(kept, Numbers((1.0,), 3.0)) == "1 steps instead of 2"
    assert difference(kept, Numbers((float("nan"), 2.0), 3.0)) is not None


def test_versions_and_missing_numbers_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {name: kept for name, kept in GOLDEN.items() if name != "fda"}
    problem = version_problem("fda", missing)
    assert problem is not None and problem.endswith("run python -m tests.golden.run to write them")
    raised(monkeypatch, "fda", 1)
    problem = version_problem("fda", GOLDEN)
    assert problem is not None and "was raised" in problem and "write its numbers anew" in problem
    older = {"fda": Golden(METHODS["fda"].version + 1, GOLDEN["fda"].numbers)}
    problem = version_problem("fda", older)
    assert problem is not None and "went down" in problem


def test_a_run_leaves_torch_s_settings_alone() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    toy_run("finetune")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == torch.float32


# ---- the command ----------------------------------------------------------------------------


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A golden file in which one number of plain fine-tuning differs."""
    path = tmp_path / "losses.json"
    golden = GOLDEN["finetune"]
    write({**GOLDEN, "finetune": Golden(golden.version, shifted(golden.numbers))}, path)
    return path


def test_the_command_refuses_a_version_that_was_not_raised(
    changed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = changed.read_bytes()
    assert main(["finetune"], changed) == 1
    assert "refused: the numbers of finetune changed" in capsys.readouterr().err
    assert main([], changed) == 0  # nothing is missing or of another version
    assert changed.read_bytes() == before
    raised(monkeypatch, "finetune", 1)
    assert main([], changed) == 0
    kept = read(changed)["finetune"]
    assert kept.version == GOLDEN["finetune"].version + 1
    assert difference(kept.numbers, GOLDEN["finetune"].numbers) is None
    raised(monkeypatch, "finetune", -1)
    assert main([], changed) == 1
    assert "refused: the version of finetune went down" in capsys.readouterr().err


def test_force_replaces_what_is_named(changed: Path) -> None:
    assert main(["finetune", "--force"], changed) == 0
    assert difference(read(changed)["finetune"].numbers, GOLDEN["finetune"].numbers) is None
    assert {n: k for n, k in read(changed).items() if n != "finetune"} == {
        n: k for n, k in GOLDEN.items() if n != "finetune"
    }


def test_the_command_writes_what_is_missing_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "losses.json"
    write({name: kept for name, kept in GOLDEN.items() if name != "finetune"}, path)
    assert main([], path) == 0
    assert difference(read(path)["finetune"].numbers, GOLDEN["finetune"].numbers) is None
    assert list(read(path)) == list(METHODS)
    before = path.read_bytes()
    assert main(["finetune"], path) == 0  # the same numbers stay as they are
    assert path.read_bytes() == before
