"""Two records of one run: within the tolerance, and beyond."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.results.agreement import agree, differences
from benchmarks.results.machines import code_changes, machine_changes, same_machine
from benchmarks.results.record import Cpu, Record, Stream
from benchmarks.results.tolerance import TOLERANCES
from tests.benchmarks.records import finished, recipe, sha

CPU = Cpu("maker", 25, 1, 1, ("avx2",), "AVX2", "mkl", True, {})


@pytest.fixture
def record() -> Record:
    return finished(recipe("lp-ft"))


def with_outcome(record: Record, **parts: Any) -> Record:
    assert record.outcome is not None
    return replace(record, outcome=replace(record.outcome, **parts))


def with_last(record: Record, accuracy: float) -> Record:
    return with_outcome(record, accuracy=((None, None), (0.9, None), (0.7, accuracy)))


def with_cpu(record: Record, cpu: Cpu | None) -> Record:
    return replace(record, how=replace(record.how, machine=replace(record.how.machine, cpu=cpu)))


def of_images(record: Record, count: int) -> Record:
    assert isinstance(record.stream, Stream)
    return replace(record, stream=replace(record.stream, test=(400, count)))


@pytest.mark.parametrize(
    ("count", "other", "holds"),
    [
        (400, 0.80, True),
        (400, 0.79, True),  # a hundredth, exactly
        (400, 0.7875, False),
        (35, 0.8 - 2 / 35, True),  # two images of 35
        (35, 0.8 - 3 / 35, False),
    ],
)
def test_an_accuracy_may_move_by_two_images_or_a_hundredth(
    record: Record, count: int, other: float, holds: bool
) -> None:
    first = of_images(record, count)
    second = with_last(first, other)
    assert agree(first, second) == agree(second, first) == holds
    assert len(differences(first, second)) == (other != 0.8)


def test_each_kind_has_its_tolerance(record: Record) -> None:
    assert record.outcome is not None
    moment = record.outcome.panel[1]
    drift = {name: {**values, "l2": 0.209} for name, values in moment.drift.items()}
    probe = {split: dict.fromkeys(v, 0.8) for split, v in moment.linear_probe.items()}
    for parts, holds in (
        ({"loss_terms": ({"Loss": (1.0 + 1e-5, 0.5)},) * 2}, True),
        ({"loss_terms": ({"Loss": (1.05, 0.5)},) * 2}, False),
        ({"avalanche_forgetting": 0.215}, True),
        ({"avalanche_forgetting": 0.23}, False),
        ({"validation_last": (0.71, 0.72)}, True),
        ({"validation_learnt": (0.8, 0.7)}, False),
        ({"panel": (record.outcome.panel[0], replace(moment, drift=drift))}, True),
        ({"panel": (record.outcome.panel[0], replace(moment, linear_probe=probe))}, False),
    ):
        assert agree(record, with_outcome(record, **parts)) == holds, parts
    assert set(TOLERANCES) == {"accuracy", "forgetting", "drift", "loss"}


def test_what_is_no_measurement_must_be_equal(record: Record) -> None:
    assert record.stream is not None
    other = replace(record, stream=replace(record.stream, split_sha256=sha("other")))
    (difference,) = differences(record, other)
    assert difference.path == "stream.split_sha256" and not difference.within
    assert not agree(record, with_outcome(record, loss_terms=({"Task": (1.0, 0.5)},) * 2))
    assert not agree(record, replace(record, initial_tower_sha256=sha("other")))
    drawn = finished(recipe("lp-ft", backbone__weights="random"))
    assert agree(drawn, replace(drawn, initial_tower_sha256=sha("other")))


def test_the_largest_difference_comes_first(record: Record) -> None:
    other = with_last(record, 0.75)
    other = with_outcome(other, loss_terms=({"Loss": (1.0001, 0.6)}, {"Loss": (1.0, 0.5)}))
    found = differences(record, other)
    assert [each.path for each in found] == [
        "outcome.loss_terms[0].Loss[1]",  # 8 times its tolerance
        "outcome.accuracy[2][1]",  # 5 times
        "outcome.loss_terms[0].Loss[0]",
    ]
    assert found[0].size > 8 and found[1].size == pytest.approx(5) and found[2].within


def test_the_same_machine_is_known_on_both_sides(record: Record) -> None:
    here = with_cpu(record, CPU).how
    assert same_machine(here, here) and not machine_changes(here, here)
    assert not same_machine(record.how, record.how)  # older records know no processor
    assert not same_machine(here, record.how) and not machine_changes(here, record.how)
    unknown = with_cpu(record, replace(CPU, stepping=None)).how
    assert not same_machine(unknown, unknown)
    for change, name in (
        ({"stepping": 2}, "stepping of the processor: 1 then, 2 now"),
        ({"torch_capability": "DEFAULT"}, "torch's CPU capability: AVX2 then, DEFAULT now"),
        ({"blas": "open"}, "BLAS: mkl then, open now"),
        ({"onednn": False}, "oneDNN: True then, False now"),
        (
            {"limits": {"ONEDNN_MAX_CPU_ISA": "SSE41"}},
            "environment variables of kernels: none then, ONEDNN_MAX_CPU_ISA=SSE41 now",
        ),
    ):
        other = with_cpu(record, replace(CPU, **change)).how  # type: ignore[arg-type]
        assert machine_changes(here, other) == [name] and not same_machine(here, other)
    newer = replace(here, versions={**here.versions, "torch": "2.16.0"})
    assert machine_changes(here, newer) == ["torch: 2.15.0 then, 2.16.0 now"]
    assert not same_machine(here, newer)
    moved = replace(here, code=replace(here.code, commit="1" * 40))
    assert same_machine(here, moved)
    assert code_changes(here, moved) == ["commit: 000000000000 then, 111111111111 now"]


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_gpu_repeats_its_bits_with_deterministic_algorithms_alone(
    record: Record, deterministic: bool
) -> None:
    how = with_cpu(record, CPU).how
    assert same_machine(how, how)
    algorithms = {**how.machine.deterministic, "algorithms": deterministic}
    gpu = replace(how, machine=replace(how.machine, device="a GPU", deterministic=algorithms))
    assert same_machine(gpu, gpu) == deterministic
