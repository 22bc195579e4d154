"""Measurements of cost: timings, files, and bounds that are exceeded."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin

from benchmarks.__main__ import main
from benchmarks.methods.registry import METHODS
from benchmarks.perf import bounds, cache, memory, overhead, page, scaling
from benchmarks.perf.arms import Bench, Setting, arm_of, strength_of
from benchmarks.perf.bounds import Bound, exceeded
from benchmarks.perf.losses import Case, Size, kept_whole, too_long
from benchmarks.perf.options import workers_of
from benchmarks.perf.rank_steps import on_ranks
from benchmarks.perf.report import read
from benchmarks.perf.saved import peak_bytes, saved_bytes
from benchmarks.perf.stats import ratios, spread
from benchmarks.perf.stepping import Stepper, take_turns
from tests.plugins.toys import Plain, classic, strategy

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")


class Sleeps(SupervisedPlugin[Any]):
    """Takes its time at the end of each iteration."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.steps = 0

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        time.sleep(self.seconds)
        self.steps += 1


class Breaks(SupervisedPlugin[Any]):
    """Fails in its second iteration."""

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_exp_iterations == 1:
            raise OverflowError("on purpose")


def stepping(*plugins: Any, epochs: int = 100) -> Stepper:
    """A training of toys that goes step by step, five steps an epoch."""
    stepper = Stepper(CPU)
    trained = strategy(Plain(), stepper, *plugins, train_epochs=epochs)
    stepper.start(lambda: trained.train(classic().train_stream[0]))
    return stepper


def perf(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["benchmarks", "perf", *words])
    return main()


# ---- steps ------------------------------------------------------------------------------


def test_a_known_slowdown_is_measured_as_such() -> None:
    # behind the stepper in the list: what comes after it in an iteration counts as well
    steppers = {"quick": stepping(Sleeps(0.05)), "slow": stepping(Sleeps(0.15))}
    try:
        take_turns(steppers, 2, 0)
        steps = take_turns(steppers, 5, 0)
    finally:
        for stepper in steppers.values():
            stepper.close()
    seconds = {name: [step.seconds for step in made] for name, made in steps.items()}
    ratio = spread(ratios(seconds["slow"], seconds["quick"]))["median"]
    assert 1.7 < ratio <= 3.05
    assert all(s >= 0.05 for s in seconds["quick"]) and all(s >= 0.15 for s in seconds["slow"])
    for made in steps.values():  # sleeping costs no processor time
        assert spread([step.cpu_seconds for step in made])["median"] < 0.05


def test_each_takes_one_step_a_round_and_none_while_another_does() -> None:
    counts = {name: Sleeps(0.0) for name in "abc"}
    steppers = {name: stepping(count) for name, count in counts.items()}
    order: list[str] = []
    for name, stepper in steppers.items():
        made = stepper.step

        def told(name: str = name, made: Any = made) -> Any:
            order.append(name)
            return made()

        stepper.step = told  # type: ignore[method-assign]
    take_turns(steppers, 6, seed=3)
    for stepper in steppers.values():
        stepper.close()
    rounds = [order[k : k + 3] for k in range(0, 18, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1  # not always in the same order
    assert {count.steps for count in counts.values()} == {5}  # the sixth ends with the next turn


def test_what_a_training_raises_is_raised_by_its_step() -> None:
    stepper = stepping(Breaks())
    stepper.step()
    with pytest.raises(OverflowError, match="on purpose"):
        stepper.step()
    with pytest.raises(OverflowError):
        stepper.step()
    stepper.close()


def test_a_training_that_ends_has_no_step_left() -> None:
    stepper = stepping(epochs=1)
    with pytest.raises(RuntimeError, match="no step left"):
        take_turns({"a": stepper}, 10, seed=0)
    stepper.close()
    stepper.close()


def test_ratios_are_of_the_same_round() -> None:
    # twice as slow for a while: that goes out of the ratio
    assert ratios([2.0, 4.4, 2.0], [1.0, 2.0, 1.0]) == [2.0, 2.2, 2.0]
    assert spread([3.0, 1.0, 2.0, 5.0, 4.0]) == {"median": 3.0, "low": 2.0, "high": 4.0}
    with pytest.raises(ValueError, match="one a round"):
        ratios([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="empty"):
        spread([])


def test_arms_that_make_no_sense_are_refused() -> None:
    assert arm_of("fda, cached").options == {"teacher_cache": "exact"}
    assert arm_of("fda").options == {"teacher_cache": "off"}
    assert "known_classes" in arm_of("lwf").options
    assert arm_of(overhead.CONTROL).method == "finetune"
    with pytest.raises(ValueError, match="unknown"):
        arm_of("fdaa")
    with pytest.raises(ValueError, match="no teacher"):
        arm_of("l2sp, cached")
    both = arm_of("soft-fda + lwf, cached")
    assert (both.method, both.options) == ("soft-fda", {"teacher_cache": "exact"})
    assert both.companions["lwf"].keys() == {"known_classes", "teacher_cache"}
    recommended = arm_of("wise-ft + soft-fda, cached")
    assert recommended.options == {}
    assert recommended.companions == {"soft-fda": {"teacher_cache": "exact"}}
    with pytest.raises(ValueError, match=r"wise-ft \+ l2sp has no teacher"):
        arm_of("wise-ft + l2sp, cached")
    with pytest.raises(ValueError, match="once is enough"):
        arm_of("soft-fda + soft-fda")


@pytest.mark.parametrize(
    ("name", "other", "forwards"),
    [
        ("wise-ft + soft-fda", "WiSEFTPlugin", 3),
        ("wise-ft + soft-fda, cached", "WiSEFTPlugin", 0),
        ("soft-fda + ldifs", "LDIFSPlugin", 3),
        ("soft-fda + ldifs, cached", "LDIFSPlugin", 0),
    ],
)
def test_a_set_has_one_forward_of_each_model_a_step(name: str, other: str, forwards: int) -> None:
    bench, students = Bench(Setting(model="tiny-clip", batch=8)), []
    with bench.started([arm_of(name)]) as (steppers, strategies):
        strategy = strategies[name]
        assert {other, "SoftFDAPlugin"} <= {type(p).__name__ for p in strategy.plugins}
        take_turns(steppers, bench.warm_up, 0)
        before = overhead.cache_use(strategy)["teacher_forwards"]
        with strategy.model.register_forward_pre_hook(lambda *_: students.append(1)):
            take_turns(steppers, 3, 0)
        assert overhead.cache_use(strategy)["teacher_forwards"] - before == forwards
    assert len(students) == 3


def test_strengths_are_one_where_one_is_a_strength() -> None:
    knobs = [name for name, method in METHODS.items() if method.knob]
    assert {name: strength_of(name) for name in knobs} == dict.fromkeys(knobs, 1) | {
        "wise-ft": 0.5,
        "averaging": 0.999,
    }
    assert {strength_of(name) for name in METHODS if name not in knobs} == {None}


def test_every_method_is_measured() -> None:
    names = [name for _, heat in overhead.HEATS for name in heat]
    assert {arm_of(name).method for name in names} == set(METHODS)
    assert {bound.of for bound in bounds.STEP} <= set(names)


# ---- overhead ---------------------------------------------------------------------------


def test_overhead_writes_what_the_page_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("overhead", "--quick", "--batch", "32", "--rounds", "2", "--arms", "fda, cached")
    monkeypatch.setattr(overhead, "BOUNDS", (Bound("fda, cached", 1e6),))
    assert perf(monkeypatch, *few, "--check", "--out", str(tmp_path)) == 0
    made = read(tmp_path / "overhead.json")
    assert set(made) == {
        "kind",
        "version",
        "command",
        "code",
        "versions",
        "machine",
        "settings",
        "summary",
        "checked",
        "raw",
    }
    assert made["settings"] | {"model": "tiny-clip", "batch": 32, "rounds": 2} == made["settings"]
    assert {"processor", "cores", "threads", "device", "load_at_start"} <= set(made["machine"])
    ((steps),) = (heat["steps"] for heat in made["raw"]["heats"])
    assert {len(arm["seconds"]) for arm in steps.values()} == {2}
    # in the rounds that count, every answer is cached
    assert (
        steps["fda, cached"]["cache_hits"] == steps["fda, cached"]["cache_lookups"] == 64
    )  # 2 rounds
    assert steps["fda, cached"]["teacher_forwards"] == 0
    again = [
        a / b
        for a, b in zip(steps["fda, cached"]["seconds"], steps["finetune"]["seconds"], strict=True)
    ]
    assert made["summary"]["fda, cached"]["ratio"]["median"] == pytest.approx(sum(again) / 2)
    assert (tmp_path / "overhead.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")
    shown = capsys.readouterr().out.strip().splitlines()
    assert shown[-1] == overhead.line(made) and "fda, cached" in shown[-1]

    monkeypatch.setattr(overhead, "BOUNDS", (Bound("fda, cached", 0.01),))
    assert perf(monkeypatch, *few, "--check") == 1
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert "exceeded: fda, cached" in last and last.startswith("x plain fine-tuning")


def test_bounds_that_nothing_was_measured_for_are_no_success(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exceeded({"a": math.nan}, (Bound("a", 1.0),)) and not exceeded(
        {"a": 1.0}, (Bound("a", 1.0), Bound("b", 1.0))
    )
    with pytest.raises(ValueError, match="nothing was measured that has a bound"):
        exceeded({"c": 1.0}, (Bound("a", 1.0),))
    assert perf(monkeypatch, "scaling", "--check") == 2
    assert "no bound" in capsys.readouterr().err
    assert perf(monkeypatch, "overhead", "--batch", "8") == 2
    assert "--batch 8 must be at least 32" in capsys.readouterr().err
    for seed in ("-1", "4294967296"):
        assert perf(monkeypatch, "overhead", "--seed", seed) == 2
        assert f"--seed={seed}: give a seed from 0 to 4294967295" in capsys.readouterr().err


# ---- the losses alone -------------------------------------------------------------------


def test_bytes_on_the_meta_device_are_those_of_the_cpu() -> None:
    for name in ("fda", "rkd", "rift"):
        found = [Case(name, Size(24, 16, 4), device) for device in ("cpu", "meta")]
        assert len({saved_bytes(case.compute, case.given) for case in found}) == 1
        assert len({peak_bytes(case.compute) for case in found}) == 1


def test_the_whole_batch_keeps_more_than_chunks() -> None:
    case = Case("proxy-fda", Size(192, 16), "meta")
    chunked = saved_bytes(case.compute, case.given)
    with kept_whole():
        assert saved_bytes(case.compute, case.given) > 5 * chunked
    assert saved_bytes(case.compute, case.given) == chunked


def test_sizes_that_take_too_long_are_left_out() -> None:
    assert too_long(None, Size(64, 8), None, 1.0) is None
    assert too_long(1.0, Size(64, 8), Size(32, 8), 8.0) is None
    assert too_long(1.0, Size(64, 8), Size(32, 8), 7.9) == 8.0


def test_memory_and_scaling_write_every_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_BOUNDED", ("proxy-fda", Size(64, 32)))
    bound, losses = memory.BOUNDS[0].of, ("fda", "proxy-fda")
    sizes = ("--batches", "16", "48", "--dims", "32", "--budget", "999", "--losses", *losses)
    assert perf(monkeypatch, "memory", *sizes, "--check", "--out", str(tmp_path)) == 0
    made = read(tmp_path / "memory.json")
    assert len(made["summary"]["points"]) == 2 * 2 * 2
    case = Case("proxy-fda", Size(64, 32), "meta")
    assert made["checked"] == {bound: saved_bytes(case.compute, case.given) / 2**20}
    assert capsys.readouterr().out.strip().splitlines()[-1] == memory.line(made)
    monkeypatch.setattr(memory, "BOUNDS", (Bound(bound, 0.001, "MiB"),))
    assert perf(monkeypatch, "memory", *sizes, "--check") == 1

    few = ("--batches", "16", "2048", "--losses", "fda", "proxy-fda", "--budget", "2")
    assert perf(monkeypatch, "scaling", "--quick", *few, "--out", str(tmp_path)) == 0
    made = read(tmp_path / "scaling.json")
    told = [(p["loss"], p["batch"]) for p in made["summary"]["points"]]
    (left,) = (p for p in made["summary"]["left_out"] if p["loss"] == "proxy-fda")
    assert ("fda", 16) in told and ("proxy-fda", 2048) not in told
    assert left["expected_seconds"] > 2
    assert all(1 <= len(p["seconds"]) <= 2 for p in made["raw"]["points"])
    assert scaling.line(made).startswith("seconds of forward and backward")


def test_each_rank_has_an_accelerator_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for count, expected in ((1, [1]), (2, [1, 2]), (8, [1, 8])):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)  # noqa: B023
        assert scaling.ranks_of("cuda") == expected
        assert scaling.check_ranks([1, count], "cuda:0") == [1, count]
        with pytest.raises(ValueError, match=f"--ranks {count + 1}: .* this machine has {count}"):
            scaling.check_ranks([count + 1], "cuda")
    assert capsys.readouterr().err.count("on one rank alone") == 1
    assert scaling.ranks_of("cpu") == [1, 2] and scaling.check_ranks([3], "cpu") == [3]
    with pytest.raises(ValueError, match="--ranks 0 must be at least 1"):
        scaling.check_ranks([0], "cpu")


@pytest.mark.slow
def test_ranks_share_a_batch() -> None:
    found = on_ranks(2, "tiny-clip", 64, 2)
    assert set(found) == {"finetune", "proxy-fda"}
    assert all(len(steps) == 2 and min(steps) > 0 for steps in found.values())


# ---- the cache --------------------------------------------------------------------------


def test_a_cache_misses_while_it_fills_and_takes_what_it_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("cache", "--quick", "--batch", "32", "--batches", "2", "--method", "fda")
    assert perf(monkeypatch, *few, "--out", str(tmp_path)) == 0
    made = read(tmp_path / "cache.json")
    found = made["summary"]
    assert list(found) == [
        "live",
        "memory, float32",
        "memory, float16",
        "file, float32",
        "file, float16",
    ]
    assert "told" not in found["live"] and found["live"]["hit_rates"]["full"] is None
    for name, bytes_of in (("float32", 4), ("float16", 2)):
        assert found[f"memory, {name}"]["told"] == 2 * 32 * 128 * bytes_of  # views x D
        assert found[f"memory, {name}"]["taken"] == found[f"memory, {name}"]["told"]
        assert found[f"file, {name}"]["taken"] >= found[f"file, {name}"]["told"]
        for place in ("memory", "file"):
            assert found[f"{place}, {name}"]["hit_rates"] == {
                "first": 0.0,
                "filling": 0.0,
                "full": 1.0,
            }
    assert set(made["checked"]) == {"fda", "fda, cached"}
    assert capsys.readouterr().out.strip().splitlines()[-1] == cache.line(made)


# ---- the page ---------------------------------------------------------------------------


def test_the_page_has_the_tables_of_its_reports() -> None:
    text = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    folder = ROOT / "docs/performance"
    assert page.filled(text, folder) == text
    assert all(f"<!-- {name} -->" in text for name in page.MEASURED)
    made = [read(file) for file in folder.glob("*.json")]
    assert made and not any(one["settings"]["quick"] for one in made)


def test_a_mark_of_nothing_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="marks no measurement"):
        page.filled("<!-- speed -->\n<!-- end of speed -->", tmp_path)
    marked = "a\n<!-- memory -->\nold\n<!-- end of memory -->\nb"
    assert "Not measured yet" in page.filled(marked, tmp_path)
    assert "old" not in page.filled(marked, tmp_path)
    (tmp_path / "memory.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="no report"):
        read(tmp_path / "memory.json")
    (tmp_path / "memory.json").write_text(json.dumps({"version": 0}), encoding="utf-8")
    with pytest.raises(ValueError, match="measure again"):
        read(tmp_path / "memory.json")


def test_the_loader_has_processes_of_its_own_beside_an_accelerator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert workers_of("cpu") == 0
    for cores, workers in ((2, 2), (16, 8)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert workers_of("cuda") == workers
