"""The rule of an automatic weight, against constrained problems whose multiplier is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from avalanche_proxyfda import (
    FDAPlugin,
    LDIFSPlugin,
    PKTPlugin,
    ProxyFDAPlugin,
    RKDPlugin,
    SoftFDAPlugin,
)
from avalanche_proxyfda.plugins.base.auto_weight import (
    AutoWeight,
    Constraint,
    check_weight,
    drifted,
)

UNBOUNDED = torch.tensor(math.inf)
"""A task's loss that leaves the share of the term without a limit."""
TARGET = torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64)


def constraint(level: float = 0.0, unit: float = 1.0, **options: float) -> Constraint:
    """A constraint whose scale is measured."""
    made = Constraint(AutoWeight(**options))
    made.measure("toy", first=level, agreed=level, moved=level + unit, new=True)
    return made


def descend(rule: Constraint, term: Any, epochs: int = 40, rate: float = 0.1) -> Tensor:
    """Minimise half the squared distance to TARGET under the rule, 20 steps an epoch.

    Args:
        rule: gives the coefficient of the term.
        term: returns value and gradient of the term at x.
        epochs: number of epochs.
        rate: learning rate.
    """
    x = torch.zeros(3, dtype=torch.float64)
    for _ in range(epochs):
        for _ in range(20):
            value, slope = term(x)
            weight = rule.weight_of(value, UNBOUNDED)
            rule.note(value, weight)
            x = x - rate * (x - TARGET + weight * slope)
        rule.end_epoch()
    return x


def half_square(x: Tensor) -> tuple[Tensor, Tensor]:
    """Half the squared norm, and its gradient."""
    return x @ x / 2, x


@pytest.mark.parametrize(("unit", "delta"), [(1.0, 0.5), (20.0, 0.1), (0.01, 30.0)])
def test_the_multiplier_is_that_of_the_constrained_problem(unit: float, delta: float) -> None:
    """Minimise |x - a|^2 / 2 with |x|^2 / 2 <= r: x = a / (1 + m), m = |a| / sqrt(2 r) - 1."""
    rule = constraint(unit=unit, delta=delta)
    x = descend(rule, half_square)
    limit = delta * unit
    right = float(TARGET.norm()) / math.sqrt(2 * limit) - 1
    assert float(x.square().sum() / 2) == pytest.approx(limit, rel=1e-3)
    assert rule.multiplier / limit == pytest.approx(right, rel=1e-2)
    assert torch.allclose(x, TARGET / (1 + right), rtol=1e-3)


def test_a_level_above_zero_makes_the_tolerance_relative() -> None:
    """Minimise |x - a|^2 / 2 with 4 + c x <= (1 + delta) 4: x = a - m c, and c x = 4 delta."""
    direction = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    rule = Constraint(AutoWeight(delta=0.25))
    rule.measure("toy", first=4.0, agreed=4.0, moved=4.5, new=True)
    assert (rule.level, rule.unit) == (4.0, 4.0)
    x = descend(rule, lambda x: (4 + direction @ x, direction))
    right = (float(direction @ TARGET) - 1.0) / 2
    assert float(direction @ x) == pytest.approx(1.0, abs=1e-3)
    assert rule.multiplier / (0.25 * 4.0) == pytest.approx(right, rel=1e-2)


def test_a_slack_term_has_no_weight() -> None:
    rule = constraint(delta=10.0)
    x = descend(rule, half_square, epochs=12)
    assert rule.multiplier == 0.0
    assert torch.allclose(x, TARGET, atol=1e-6)


def test_the_coefficient_is_the_gradient_of_the_augmented_lagrangian() -> None:
    rule = constraint(level=0.5, unit=2.0, delta=0.3, penalty=1.7)
    rule.multiplier = 0.4
    for start in (0.2, 0.6, 0.9, 1.5, 3.0):
        value = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        excess = (value - 0.5) / 0.6 - 1
        shifted = torch.clamp(0.4 + 1.7 * excess, min=0)
        (right,) = torch.autograd.grad((shifted**2 - 0.4**2) / (2 * 1.7), value)
        assert float(rule.weight_of(value, UNBOUNDED)) == pytest.approx(float(right), abs=1e-12)


def test_the_multiplier_rises_falls_and_is_bounded() -> None:
    rule = constraint(delta=0.5, penalty=2.0, maximum=5.0)
    assert rule.update(0.75) == 1.0  # half of the tolerance above the limit
    assert rule.update(0.5) == 1.0  # on the limit
    assert rule.update(0.25) == 0.0
    assert rule.update(0.0) == 0.0
    assert rule.update(1e9) == 5.0
    assert float(rule.weight_of(torch.tensor(1e30), UNBOUNDED)) == 5.0 / 0.5


def test_an_epoch_is_judged_by_its_mean() -> None:
    rule = constraint(delta=1.0)
    for value in (0.0, 1.0, 5.0):
        rule.note(torch.tensor(value), torch.tensor(value / 10))
    ended = rule.end_epoch()
    assert ended == pytest.approx({"weight": 0.2, "multiplier": 1.0, "tolerance_used": 2.0})
    assert rule.end_epoch() == {} and rule.multiplier == pytest.approx(1.0)


def test_an_epoch_of_one_step_updates_the_multiplier() -> None:
    rule = constraint(delta=1.0)
    rule.note(torch.tensor(1.5), torch.tensor(0.5))
    assert rule.end_epoch()["multiplier"] == pytest.approx(0.5)


def test_noise_of_the_student_belongs_to_the_level() -> None:
    """Dropout, for example: the first value is above that of the teacher against itself."""
    rule = Constraint(AutoWeight(delta=1.0))
    rule.measure("toy", first=0.3, agreed=0.0, moved=2.0, new=True)
    assert (rule.level, rule.unit) == (0.3, 2.0)
    rule.forget_scale()
    assert rule.level is None
    rule.measure("toy", first=1.7, agreed=0.1, moved=1.1, new=False)  # a student that has moved
    assert (rule.level, rule.unit) == (pytest.approx(0.4), pytest.approx(1.0))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["first", "agreed", "moved"])
def test_values_that_are_not_finite_are_refused(bad: float, place: str) -> None:
    values = {"first": 0.0, "agreed": 0.0, "moved": 1.0, place: bad}
    with pytest.raises(ValueError, match=r"LDIFS: weight='auto' measures.* hold NaN or Inf; check"):
        Constraint(AutoWeight()).measure("LDIFS", new=True, **values)


def test_a_term_that_a_drift_does_not_move_is_refused() -> None:
    with pytest.raises(ValueError, match=r"LDIFS: .*it is 0, below 1e-06.*has one sample.*raise"):
        Constraint(AutoWeight()).measure("LDIFS", first=0.0, agreed=0.0, moved=0.0, new=True)


@pytest.mark.parametrize(("agreed", "unit"), [(0.0, 3e-7), (0.0, -2e-8), (-4e-8, 1e-7)])
def test_a_unit_that_is_rounding_is_refused_with_its_causes(agreed: float, unit: float) -> None:
    words = (
        r"one sample, all its samples have the same features, or their features are nearly alike"
    )
    with pytest.raises(
        ValueError, match=rf"{words}; .*raise train_mb_size; else compare.*a number"
    ):
        Constraint(AutoWeight()).measure(
            "PKT", first=agreed, agreed=agreed, moved=agreed + unit, new=True
        )


def test_a_small_unit_that_float32_resolves_is_taken() -> None:
    assert constraint(unit=2e-6).unit == 2e-6


def limited(**options: float) -> Constraint:
    """A rule whose tolerance of 0.01 every value above 1.01 leaves."""
    rule = Constraint(AutoWeight(delta=0.01, maximum=1e3, **options))
    rule.measure("toy", first=1.0, agreed=1.0, moved=2.0, new=True)
    return rule


def test_the_share_limits_the_coefficient() -> None:
    """With s = 1/4 the term may rise to a third of the task's loss: 6 / 3 = 2 = weight (3 - 1)."""
    value, task = torch.tensor(3.0), torch.tensor(6.0)
    assert float(limited().weight_of(value, UNBOUNDED)) == pytest.approx(19900, rel=1e-4)
    assert float(limited(share=0.25).weight_of(value, task)) == pytest.approx(1.0)
    assert float(limited().weight_of(value, task)) == pytest.approx(3.0)  # s = 1/2
    assert float(limited(share=0.25).weight_of(value, torch.tensor(0.0))) == 0.0
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        weight = limited(share=0.25).weight_of(value.to(dtype), task)
        assert weight.dtype == dtype and float(weight) == pytest.approx(1.0, rel=1e-2)


def test_the_limit_reads_the_mean_of_the_tasks_loss_in_the_experience() -> None:
    """A fitted task has a loss near 0, and the term keeps its weight: means 6, 3 and 2."""
    rule, value = limited(), torch.tensor(3.0)
    tasks = (torch.tensor(6.0), torch.tensor(0.0), torch.tensor(0.0))
    assert [float(rule.weight_of(value, task)) for task in tasks] == pytest.approx([3.0, 1.5, 1.0])
    rule.forget_scale()
    rule.measure("toy", first=1.0, agreed=1.0, moved=2.0, new=True)
    assert float(rule.weight_of(value, torch.tensor(8.0))) == pytest.approx(4.0)


def test_a_term_within_its_tolerance_is_limited_as_if_it_used_all_of_it() -> None:
    """A multiplier of 1 000 would give 1e5: the limit is 6 / 0.01 where the term rose by less."""
    rule = limited()
    rule.multiplier = 1e3
    for value in (0.5, 1.0, 1.005, 1.01):
        weight = rule.weight_of(torch.tensor(value, dtype=torch.float64), torch.tensor(6.0))
        assert float(weight) == pytest.approx(600.0)


def test_a_term_that_pulls_at_the_teacher_is_always_at_its_share() -> None:
    """With s = 1/4 the term is a third of the task's loss: 6 / 3 = 2 = weight * value.

    Training can lower such a term to below its level, and the weight stays at the share.
    """
    rule = Constraint(AutoWeight(delta=0.01, share=0.25), rule="share")
    rule.measure("toy", first=1.0, agreed=1.0, moved=1.5, new=True)
    for value, right in ((4.0, 0.5), (1.0, 2.0), (0.5, 4.0), (0.001, 200.0)):  # the last: delta u
        weight = rule.weight_of(torch.tensor(value, dtype=torch.float64), torch.tensor(6.0))
        assert float(weight) == pytest.approx(right)
    pair = rule.weight_of(torch.tensor(4.0), torch.tensor(6.0), constraints=2)
    assert float(pair) == pytest.approx(0.25)
    rule.note(torch.tensor(4.0), torch.tensor(0.5))
    ended = rule.end_epoch()
    assert ended == pytest.approx({"weight": 0.5, "multiplier": 0.0, "tolerance_used": 300.0})


def test_a_drift_has_its_share_whatever_the_term_is() -> None:
    """With s = 1/3 and a unit of 0.25, the weight is half the task's loss by it: 3 / 0.25."""
    rule = Constraint(AutoWeight(share=1 / 3, delta=1.0), rule="drift")
    rule.measure("toy", first=0.75, agreed=0.0, moved=0.25, new=True)
    for value in (0.0, 0.01, 7.0):
        weight = rule.weight_of(torch.tensor(value, dtype=torch.float64), torch.tensor(6.0))
        assert float(weight) == pytest.approx(12.0)
    pair = rule.weight_of(torch.tensor(1.0), torch.tensor(6.0), constraints=2)
    assert float(pair) == pytest.approx(6.0)
    rule.note(torch.tensor(1.5), torch.tensor(12.0))
    ended = rule.end_epoch()
    assert ended == pytest.approx({"weight": 12.0, "multiplier": 0.0, "tolerance_used": 6.0})


def test_a_drift_that_is_too_small_is_refused_with_its_remedy() -> None:
    rule = Constraint(AutoWeight(drift=0.001), rule="drift")
    words = (
        r"toy: .*a drift by 0\.001.* rises by 1e-07 there, below 1e-06.*train_mb_size or the drift"
    )
    with pytest.raises(ValueError, match=words):
        rule.measure("toy", first=0.0, agreed=0.0, moved=1e-7, new=True)
    rule.measure("toy", first=0.0, agreed=0.0, moved=1e-7, new=True, least=1e-30)
    assert rule.unit == 1e-7
    assert LDIFSPlugin.least_unit < 1e-30 < RKDPlugin.least_unit


def test_a_rule_that_does_not_exist_is_refused() -> None:
    class Wrong(RKDPlugin):
        auto_rule = "shares"  # type: ignore[assignment]

    with pytest.raises(ValueError, match=r"Wrong\.auto_rule='shares' is unknown; choose one of"):
        Wrong("auto")


def test_constraints_divide_the_limit() -> None:
    value, task = torch.tensor(3.0), torch.tensor(6.0)
    weights = [float(limited().weight_of(value, task, constraints=n)) for n in (1, 2, 3)]
    assert weights == pytest.approx([3.0, 1.5, 1.0])


def test_a_share_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"share=1\.0 must be below 1: the task must count too"):
        AutoWeight(share=1)


@pytest.mark.parametrize("name", ["delta", "drift", "penalty", "maximum", "share"])
def test_options_are_checked(name: str) -> None:
    for bad, kind in ((0, ValueError), (-1, ValueError), (math.inf, ValueError), ("1", TypeError)):
        with pytest.raises(kind, match=f"{name}="):
            AutoWeight(**{name: bad})


def test_a_delta_or_share_that_is_left_out_is_the_methods_own() -> None:
    """docs/automatic-weight.md says where these numbers are from."""
    assert Constraint(AutoWeight()).delta == RKDPlugin("auto").auto_weight.delta == 0.3
    assert RKDPlugin("auto").auto_weight.drift == 0.5
    assert LDIFSPlugin("auto").auto_weight.drift == 0.12
    for kind in (SoftFDAPlugin, PKTPlugin):
        assert kind("auto").auto_weight.delta == 1.0
        options = AutoWeight(penalty=2.0)
        own = AutoWeight(1.0, drift=0.5, penalty=2.0, share=0.25)
        assert kind("auto", auto_weight=options).auto_weight == own
        assert kind("auto", auto_weight=AutoWeight(delta=0.2)).auto_weight.delta == 0.2
        assert kind("auto", auto_weight=AutoWeight(share=0.4)).auto_weight.share == 0.4
    for pulling, own_share in ((FDAPlugin, 0.25), (ProxyFDAPlugin, 0.25), (LDIFSPlugin, 0.5)):
        assert pulling("auto").auto_weight.share == own_share
        assert pulling("auto", auto_weight=AutoWeight(share=0.4)).auto_weight.share == 0.4
        for name in ("delta", "penalty", "maximum"):
            with pytest.raises(ValueError, match=rf"{name}=0\.2 has no effect with .*a share, or"):
                pulling("auto", auto_weight=AutoWeight(**{name: 0.2}))
    assert Constraint(AutoWeight()).share == RKDPlugin("auto").auto_weight.share == 0.5
    rule = Constraint(SoftFDAPlugin("auto").auto_weight)
    rule.measure("toy", first=0.0, agreed=0.0, moved=2.0, new=True)
    assert rule.used(2.0) == 1.0


def test_weights_are_checked() -> None:
    assert check_weight("weight", "auto") == "auto" and check_weight("weight", 3) == 3.0
    with pytest.raises(TypeError, match="weight='automatic' must be a number, or 'auto'"):
        check_weight("weight", "automatic")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="weight=None must be a number"):
        check_weight("weight", None)  # type: ignore[arg-type]


def test_a_drift_has_its_size_and_is_the_same_again() -> None:
    source = torch.Generator().manual_seed(0)
    rows = 100 + torch.randn(400, 30, generator=source) * 3
    shallow, moved = drifted([rows, rows], 0.2)
    assert torch.equal(shallow, rows)
    difference = (moved - rows).double()
    assert float(difference.square().mean().sqrt()) == pytest.approx(0.2 * 3, rel=0.03)
    assert abs(float(difference.mean())) < 0.02
    state = torch.get_rng_state()
    assert torch.equal(drifted(rows, 0.2), moved)
    assert torch.equal(drifted({"a": 7, "b": rows}, 0.2)["b"], moved)
    deep, last = drifted([rows, rows], 0.2, deepest=0)
    assert torch.equal(deep, moved) and torch.equal(last, rows)
    named = drifted({"a": rows, "b": rows}, 0.2, deepest="a")
    assert torch.equal(named["a"], moved) and torch.equal(named["b"], rows)
    assert drifted([], 0.2) == [] and drifted({}, 0.2) == {}
    assert torch.equal(torch.get_rng_state(), state)
    assert drifted(rows.bfloat16(), 0.2).dtype == torch.bfloat16
    assert torch.equal(drifted(rows[:1], 0.2), rows[:1])  # one sample has no spread
