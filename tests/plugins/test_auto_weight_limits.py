"""Limits of ``weight="auto"``: a term's share in the loss, noise, and states of other rules."""

from __future__ import annotations

import copy
import warnings
from typing import Any, NamedTuple

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda import LDIFSPlugin
from avalanche_proxyfda.plugins.base.auto_weight import AutoWeight, Constraint
from avalanche_proxyfda.strategies import EfficientNaive
from tests.methods import toy_plugin, toy_reference_data
from tests.plugins.test_auto_weight import gentle, train
from tests.plugins.toys import Plain, classic

INFEASIBLE = AutoWeight(delta=1e-6, share=0.25)
"""A tolerance that every step leaves, so that the share alone limits the weight."""
pytestmark = pytest.mark.filterwarnings("ignore:hard-class batches")


class Call(NamedTuple):
    """One call of the rule."""

    level: float
    value: float
    task: float
    constraints: int
    weight: float


class Losses(SupervisedPlugin[Any]):
    """Keeps the loss of each step as it is before the package's plugins add terms."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[Tensor] = []

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        self.losses.append(strategy.loss.detach().clone())


def steps_of(monkeypatch: Any, *plugins: Any, **options: Any) -> tuple[list[Any], list[Tensor]]:
    """Train two experiences; return what each call got and gave, and the losses of the task.

    A call got the value, the task and the number of constraints, and gave the weight.
    """
    seen: list[Any] = []
    rule = Constraint.weight_of

    def spied(self: Constraint, value: Tensor, task: Tensor, constraints: int) -> Tensor:
        weight = rule(self, value, task, constraints)
        seen.append(Call(self.level, float(value), float(task), constraints, float(weight)))
        return weight

    monkeypatch.setattr(Constraint, "weight_of", spied)
    torch.manual_seed(0)
    losses = Losses()
    trained = gentle(losses, *plugins, **options)
    for experience in classic(2).train_stream:
        trained.train(experience, eval_streams=[])
    return seen, losses.losses


@pytest.mark.parametrize(
    "options", [{}, {"kind": EfficientNaive, "accumulate": 2, "precision": "bf16"}]
)
def test_two_terms_have_together_at_most_their_share_of_the_mean_task(
    monkeypatch: Any, options: Any
) -> None:
    """The second plugin's task is the criterion's loss too, without the first plugin's term."""
    plugins = [toy_plugin(n, weight="auto", auto_weight=INFEASIBLE) for n in ("pkt", "rkd")]
    seen, losses = steps_of(monkeypatch, *plugins, **options)
    assert len(seen) == 2 * len(losses) > 10
    half = len(losses) // 2  # the steps of an experience
    shares = []
    for step in range(len(losses)):
        begin = step - step % half
        mean = sum(float(each) for each in losses[begin : step + 1]) / (step + 1 - begin)
        pair = seen[2 * step : 2 * step + 2]
        assert [call.task for call in pair] == pytest.approx([float(losses[step])] * 2, rel=1e-6)
        assert [call.constraints for call in pair] == ([1, 2] if step % half == 0 else [2, 2])
        shares.append([call.weight * (call.value - call.level) / mean for call in pair])
    later = [pair for step, pair in enumerate(shares) if step % half]
    assert all(share <= (1 / 3 / 2) * (1 + 1e-4) for pair in later for share in pair)
    at_limit = [share == pytest.approx(1 / 6, rel=1e-3) for pair in later for share in pair]
    assert sum(at_limit) >= len(at_limit) / 4


def test_a_term_on_reference_data_is_measured_against_the_same_task(monkeypatch: Any) -> None:
    data = toy_reference_data()
    plugin = toy_plugin("pkt", weight="auto", auto_weight=INFEASIBLE, reference_data=data)
    seen, losses = steps_of(monkeypatch, plugin)
    tasks = [call.task for call in seen]
    assert tasks == pytest.approx([float(each) for each in losses for _ in range(2)], rel=1e-6)


def test_a_plugin_of_weights_may_stand_first(monkeypatch: Any) -> None:
    plugins = [toy_plugin("l2sp"), toy_plugin("pkt", weight="auto", auto_weight=INFEASIBLE)]
    seen, losses = steps_of(monkeypatch, *plugins)
    assert [call.task for call in seen] == pytest.approx([float(each) for each in losses], rel=1e-6)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rkd", "becomes part of the level, so the weight may stay 0"),
        ("ldifs", "weighs that many times as much as the drift"),  # it has no level
    ],
)
def test_noise_of_batch_norms_is_said_once(name: str, words: str) -> None:
    """Batch norms in training mode change the student's features before the first step."""
    plugin = toy_plugin(name, weight="auto")
    trained = gentle(plugin, model=Plain(0, dropout=0.0))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for experience in classic(2).train_stream:
            trained.train(experience, eval_streams=[])
    text = [str(each.message) for each in said if "weight='auto'" in str(each.message)]
    begin = f"{plugin.name}: weight='auto' begins with a term of "
    assert len(text) == 1 and text[0].startswith(begin) and words in text[0]
    assert "Freeze the statistics of batch norms" in text[0]
    assert plugin.constraints[""].noise > plugin.constraints[""].unit


@pytest.mark.parametrize("name", ["rkd", "ldifs"])
def test_features_without_noise_are_no_reason_to_warn(name: str) -> None:
    plugin = toy_plugin(name, weight="auto")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", f"{plugin.name}: weight='auto' begins")
        trained = gentle(plugin)  # without batch norms
        trained.train(classic(1).train_stream[0], eval_streams=[])
    assert plugin.constraints[""].noise == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", ["fda", "proxy-fda"])
def test_a_term_that_pulls_at_the_teacher_is_at_its_share_in_each_step(
    monkeypatch: Any, name: str
) -> None:
    """With s = 1/4 the weighed term is a third of the task's mean loss in the experience."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*pulls at the features")
        seen, losses = steps_of(monkeypatch, toy_plugin(name, weight="auto"))
    assert len(seen) == len(losses) > 5
    half = len(losses) // 2  # the steps of an experience
    for step, call in enumerate(seen):
        begin = step - step % half
        mean = sum(float(each) for each in losses[begin : step + 1]) / (step + 1 - begin)
        assert call.weight * call.value == pytest.approx(mean / 3, rel=1e-4)


@pytest.mark.parametrize("prefix", ["", "reference_"])
def test_the_unit_of_ldifs_is_its_term_at_a_drift_by_a_share_of_each_norm(prefix: str) -> None:
    """A vector of D features adds drift² / D, and the term is the mean over the two places."""
    options: Any = {"taps": ("backbone.1", "backbone"), "auto_weight": AutoWeight(drift=0.2)}
    if prefix:
        options |= {"reference_weight": "auto", "reference_data": toy_reference_data()}
    plugin = LDIFSPlugin(1.0 if prefix else "auto", teacher="initial", **options)
    trained = gentle(plugin)
    experience = classic(1).train_stream[0]
    trained.train(experience, eval_streams=[])
    image, backbone = experience.dataset[0][0], trained.model.backbone
    images = torch.stack([image, image])
    widths = [part(images).shape[1] for part in (backbone[:2], backbone)]
    right = 0.2**2 * (1 / widths[0] + 1 / widths[1]) / 2
    assert plugin.constraints[prefix].unit == pytest.approx(right, rel=1e-5)


def test_a_drift_of_ldifs_is_at_the_share_of_the_mean_task_in_each_step(monkeypatch: Any) -> None:
    """With s = 1/4 a drift of the maps, whose term is the unit, weighs a third of the task."""
    plugin = toy_plugin("ldifs", weight="auto", auto_weight=AutoWeight(share=0.25))
    units: list[float] = []
    weighed = plugin.weighed

    def noted(*args: Any, **kwargs: Any) -> Any:
        terms = weighed(*args, **kwargs)
        units.append(plugin.constraints[""].unit)
        return terms

    monkeypatch.setattr(plugin, "weighed", noted)
    seen, losses = steps_of(monkeypatch, plugin)
    assert len(seen) == len(losses) == len(units) > 5
    half = len(losses) // 2  # the steps of an experience
    for step, (call, unit) in enumerate(zip(seen, units, strict=True)):
        begin = step - step % half
        mean = sum(float(each) for each in losses[begin : step + 1]) / (step + 1 - begin)
        assert call.weight * unit == pytest.approx(mean / 3, rel=1e-4)


@pytest.mark.parametrize(("moved", "count"), [(1.0, 1), (0.0, 0)])
def test_a_term_that_is_not_known_to_pull_at_the_teacher_is_said_once(
    monkeypatch: Any, moved: float, count: int
) -> None:
    plugin = toy_plugin("pkt", weight="auto")
    compare = plugin.compare

    def pulling(student: Any, teacher: Any) -> Any:
        return {
            name: (weight, value + moved)
            for name, (weight, value) in compare(student, teacher).items()
        }

    monkeypatch.setattr(plugin, "compare", pulling)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trained = gentle(plugin)
        for experience in classic(2).train_stream:
            trained.train(experience, eval_streams=[])
    text = [str(each.message) for each in said if "from the first step on" in str(each.message)]
    assert len(text) == count
    assert all("PKT" in each and "set auto_rule = 'share'" in each for each in text)


def test_a_state_with_another_rule_is_refused() -> None:
    """LDIFS had a constraint before, whose state names no rule and has another unit."""
    plugin = toy_plugin("ldifs", weight="auto")
    train(plugin, experiences=1)
    state = copy.deepcopy(plugin.state_dict())
    toy_plugin("ldifs", weight="auto").load_state_dict(state)
    assert state["auto_weight"][""].pop("rule") == "drift"
    fresh = toy_plugin("ldifs", weight="auto")
    with pytest.raises(ValueError, match=r"of LDIFS has the rule 'limit'.*'drift'.*begin the"):
        fresh.load_state_dict(state)
    assert fresh.constraints == {}
    for name in ("rkd", "fda"):  # their rules are those of before
        other = toy_plugin(name, weight="auto")
        train(other, experiences=1)
        state = copy.deepcopy(other.state_dict())
        del state["auto_weight"][""]["rule"]
        toy_plugin(name, weight="auto").load_state_dict(state)


def test_states_of_the_other_kind_are_refused() -> None:
    fixed, automatic = toy_plugin("pkt", weight=1.0), toy_plugin("pkt", weight="auto")
    with pytest.raises(ValueError, match=r"PKT is of a plugin whose weight is a number.*'auto'"):
        automatic.load_state_dict(fixed.state_dict())
    with pytest.raises(ValueError, match=r"PKT is of a plugin whose weight is 'auto'.*a number"):
        fixed.load_state_dict(automatic.state_dict())
