"""weight="auto" in training: it falls, rises, is saved, and covers several plugins at once."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda.features.source import FeatureSource
from avalanche_proxyfda.plugins.base.auto_weight import AutoWeight, drifted
from avalanche_proxyfda.plugins.base.beside import Beside
from avalanche_proxyfda.plugins.base.weighted import WeightedPlugin
from avalanche_proxyfda.strategies import EfficientNaive
from tests.methods import ON_REFERENCE, PLUGINS, toy_plugin, toy_reference_data
from tests.plugins.toys import Plain, classic, same, strategy

AUTOMATIC = tuple(name for name, kind in PLUGINS.items() if issubclass(kind, WeightedPlugin))
SHARPENING = ("fda", "proxy-fda")
"""Methods whose term is not zero where student and teacher agree."""
HELD = tuple(name for name in AUTOMATIC if PLUGINS[name].auto_rule == "limit")
"""Methods whose term is held below a limit."""
STRICT, LOOSE = AutoWeight(delta=0.005, maximum=50.0), AutoWeight(delta=1e4)
pytestmark = pytest.mark.filterwarnings("ignore:hard-class batches")


class Notes(SupervisedPlugin[Any]):
    """Keeps the metrics that plugins publish, and the states of the plugins after each step."""

    def __init__(self, *own: Any) -> None:
        super().__init__()
        self.own = own
        self.published: dict[str, list[float]] = {}
        self.states: list[Any] = []
        self.weights: list[dict[str, Tensor]] = []

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.states.append(copy.deepcopy([p.state_dict() for p in self.own]))
        self.weights.append(copy.deepcopy(strategy.model.state_dict()))

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """The plugins stand before this one, so that their values are published already."""
        for name, value in strategy.evaluator.get_last_metrics().items():
            if "_Epoch/train_phase" in name:
                self.published.setdefault(name.split("_Epoch")[0], []).append(float(value))


def toy_model(seed: int = 0) -> Plain:
    """A model that gives the same features in training and in evaluation."""
    model = Plain(seed, dropout=0.0)
    model.backbone[2] = nn.Identity()  # in place of batch normalisation
    return model


def gentle(*plugins: Any, model: Plain | None = None, adam: bool = True, **options: Any) -> Any:
    """A strategy whose steps are small; those of Adam have one size, whatever the weight."""
    trained = strategy(model or toy_model(), *plugins, adam=adam, **options)
    change = {"lr": 3e-3, "weight_decay": 0.0} if adam else {"lr": 0.02, "momentum": 0.0}
    trained.optimizer.param_groups[0] |= change
    return trained


def train(*plugins: Any, experiences: int = 2, **options: Any) -> Notes:
    """Train a toy model gently."""
    torch.manual_seed(0)
    notes = Notes(*plugins)
    trained = gentle(*plugins, notes, **options)
    for experience in classic(experiences).train_stream:
        trained.train(experience, eval_streams=[])
    return notes


def multipliers(plugin: Any) -> Mapping[str, float]:
    """Return the multipliers by prefix."""
    return {prefix: each.multiplier for prefix, each in plugin.constraints.items()}


# ---- every method ---------------------------------------------------------------------------


def test_three_methods_have_no_limit() -> None:
    assert set(AUTOMATIC) - set(HELD) == {*SHARPENING, "ldifs"}


@pytest.mark.parametrize("name", HELD)
def test_a_violated_term_gets_a_weight_and_a_slack_one_has_none(name: str) -> None:
    prefix = "reference_" if name in ON_REFERENCE and name != "lipsum-ft" else ""
    ends = {}
    for which, options in (("strict", STRICT), ("loose", LOOSE)):
        plugin = toy_plugin(name, weight="auto", auto_weight=options)
        published = train(plugin, train_epochs=2).published
        weights = published[f"{plugin.name}_{prefix}weight"]
        ends[which] = published[f"{plugin.name}_{prefix}multiplier"]
        assert set(plugin.constraints) == {prefix}
        assert multipliers(plugin)[prefix] == ends[which][-1]
        assert any(weights) == (which == "strict")
    assert 0 < max(ends["strict"]) <= STRICT.maximum
    assert not any(ends["loose"])


@pytest.mark.parametrize("name", SHARPENING)
def test_a_level_above_zero_is_that_of_the_first_step(name: str) -> None:
    """FDA's term is not zero at the teacher, so the tolerance is a share of the level."""
    plugin = toy_plugin(name, weight="auto", hard_class_batches=False)
    published = train(plugin, train_epochs=2, experiences=1).published
    constraint = plugin.constraints[""]
    assert constraint.level == pytest.approx(constraint.unit, rel=1e-5) and constraint.unit > 0
    used = [
        (term / constraint.level - 1) / plugin.auto_weight.delta
        for term in published[f"{plugin.name}_alignment"]
    ]
    assert published[f"{plugin.name}_tolerance_used"] == pytest.approx(used, rel=1e-4, abs=1e-5)


def test_the_multiplier_falls_when_the_term_is_slack() -> None:
    plugin = toy_plugin("rkd", weight="auto", auto_weight=LOOSE)
    train(plugin, experiences=1)
    plugin.constraints[""].multiplier = 2.5
    notes = Notes()
    trained = gentle(plugin, notes, train_epochs=4)
    plugin.load_state_dict(plugin.state_dict() | {"inside": False})  # another strategy
    trained.train(classic(1).train_stream[0], eval_streams=[])
    found = notes.published["RKD_multiplier"]
    assert [round(value, 2) for value in found] == [1.5, 0.5, 0.0, 0.0]


def test_a_number_is_what_it_was() -> None:
    plugin = toy_plugin("rkd", weight=2.0)
    notes = train(plugin)
    assert plugin.constraints == {} and "auto_weight" not in plugin.state_dict()
    assert [name for name in notes.published if "RKD" in name] == ["RKD_relations"]


def test_the_scale_is_that_of_the_definition() -> None:
    """Level: the first value. Unit: the rise at a drift of the teacher's features."""
    plugin = toy_plugin("rkd", weight="auto")
    seen: list[tuple[Tensor, Tensor, float]] = []
    real = plugin.compare

    def spy(student: Tensor, teacher: Tensor) -> Any:
        terms = real(student, teacher)
        seen.append((student.detach(), teacher, float(terms["relations"][1].detach())))
        return terms

    plugin.compare = spy
    train(plugin, experiences=1)
    constraint = plugin.constraints[""]
    (first, teacher, value), (agreed, _, zero), (moved, _, rise), *others = seen
    assert torch.equal(agreed, teacher) and zero == pytest.approx(0, abs=1e-6)
    spread = (teacher - teacher.mean(0)).square().mean().sqrt()
    assert float((moved - teacher).square().mean().sqrt() / spread) == pytest.approx(0.5, rel=0.2)
    assert constraint.level is None or constraint.level == pytest.approx(value, rel=1e-6)
    assert constraint.unit == pytest.approx(rise, rel=1e-5)
    assert len(others) == 4 and torch.allclose(first, teacher)


def test_the_drift_of_lwf_is_at_its_own_place() -> None:
    """A teacher that LwF shares with other plugins has values of their places too."""
    plugin, rows = toy_plugin("lwf", weight="auto"), torch.randn(6, 3)
    own, other = FeatureSource("classifier", of_input=True), FeatureSource("classifier")
    plugin.sources = (own,)
    moved = drifted({own: rows, other: rows}, 0.5, plugin.deepest())
    assert not torch.equal(moved[own], rows) and torch.equal(moved[other], rows)


def test_no_forward_is_added() -> None:
    plain, automatic = (toy_plugin("pkt", weight=w, teacher_cache="off") for w in (1.0, "auto"))
    train(plain), train(automatic)
    assert plain.teacher_forwards == automatic.teacher_forwards == 6


# ---- several at once ------------------------------------------------------------------------


def test_each_of_two_plugins_has_its_own_weight() -> None:
    first = toy_plugin("rkd", weight="auto", auto_weight=STRICT)
    second = toy_plugin("pkt", weight="auto", auto_weight=LOOSE)
    published = train(first, second, train_epochs=2).published
    assert max(published["RKD_multiplier"]) > 0 == max(published["PKT_multiplier"])
    assert max(published["RKD_weight"]) > 0 == max(published["PKT_weight"])


def test_training_and_reference_terms_are_two_constraints() -> None:
    plugin = toy_plugin(
        "pkt", weight="auto", auto_weight=STRICT, reference_data=toy_reference_data()
    )
    published = train(plugin).published
    assert set(plugin.constraints) == {"", "reference_"}
    assert max(published["PKT_weight"]) != max(published["PKT_reference_weight"]) > 0


@pytest.mark.parametrize(("weight", "other"), [("auto", 0.5), (0.5, "auto")])
def test_one_of_the_two_may_be_a_number(weight: Any, other: Any) -> None:
    data = toy_reference_data()
    plugin = toy_plugin("pkt", weight=weight, reference_weight=other, reference_data=data)
    train(plugin, experiences=1)
    assert set(plugin.constraints) == {"" if weight == "auto" else "reference_"}


def test_the_generator_of_proxies_keeps_its_coefficient() -> None:
    plugin = toy_plugin("proxy-fda", weight="auto", auto_weight=AutoWeight(share=0.5))
    plugin.task_value = lambda strategy: torch.tensor(90.0)
    one = torch.ones(())
    terms = plugin.weighed(None, {"alignment": (2.0, one), "generator": (1.0, one)})
    assert {name: c for name, (c, _) in terms.items()} == {"alignment": 2.0, "generator": 1.0}
    plugin._constraint().measure("P", first=0.0, agreed=0.0, moved=1.0, new=True)
    terms = plugin.weighed(gentle(plugin), {"alignment": ("auto", one), "generator": (1.0, one)})
    assert float(terms["alignment"][0]) == pytest.approx(90.0) and terms["generator"][0] == 1.0


# ---- experiences and epochs -----------------------------------------------------------------


def test_one_epoch_an_experience_carries_the_multiplier_on() -> None:
    plugin = toy_plugin("rkd", weight="auto", auto_weight=STRICT)
    published = train(plugin, experiences=3).published
    before = 0.0
    for used, after in zip(
        published["RKD_tolerance_used"], published["RKD_multiplier"], strict=True
    ):
        assert after == pytest.approx(min(max(before + used - 1, 0.0), STRICT.maximum))
        before = after
    assert published["RKD_multiplier"][0] > 0


def test_an_experience_that_was_refused_before_its_first_batch_is_measured_anew() -> None:
    units = []
    for refused in (False, True):
        plugin, (first, second) = toy_plugin("rkd", weight="auto"), classic(2).train_stream
        torch.manual_seed(0)
        trained = gentle(plugin)
        trained.train(first, eval_streams=[])
        before = plugin.constraints[""].unit
        if refused:
            trained.train_mb_size = 64
            with pytest.raises(ValueError, match="loader is empty"):
                trained.train(second, eval_streams=[], drop_last=True)
            trained.train_mb_size = 24
        torch.manual_seed(1)
        trained.train(second, eval_streams=[])
        units.append(plugin.constraints[""].unit)
        assert units[-1] != before
    assert units[0] == units[1]


def test_epochs_of_one_step() -> None:
    plugin = toy_plugin("rkd", weight="auto", auto_weight=STRICT)
    published = train(plugin, train_mb_size=120, train_epochs=3, experiences=1).published
    found = published["RKD_multiplier"]
    assert found[0] == 0.0 < found[1]  # the first step is at the teacher


def test_an_averaged_teacher_and_the_initial_one() -> None:
    for teacher in ("averaged", "initial"):
        plugin = toy_plugin("rkd", weight="auto", auto_weight=STRICT, teacher=teacher)
        assert max(train(plugin, train_epochs=2).published["RKD_multiplier"]) > 0


def test_dives_running_mean_is_no_part_of_its_unit() -> None:
    """The mean is not zero in the second experience, and a drift raises the term as before."""
    plugin = toy_plugin("dive", weight="auto", auto_weight=LOOSE, teacher="initial")
    train(plugin, train_epochs=3)
    assert plugin.choice == "initial" and float(plugin.loss.mean.norm()) > 0.01
    (constraint,) = plugin.constraints.values()
    rows = torch.randn(40, 8)
    plugin.measuring = True
    agreed, moved = (
        float(plugin.compare_reference(each, rows, Beside([]))["differences"][1])
        for each in (rows, drifted(rows, 0.5))
    )
    assert agreed == 0.0
    assert moved == pytest.approx(float((drifted(rows, 0.5) - rows).square().sum()) / 40, rel=1e-5)
    assert constraint.level == pytest.approx(constraint.noise, abs=1e-7)


@pytest.mark.parametrize("graph_from", ["micro-batch", "accumulated"])
def test_accumulated_micro_batches(graph_from: str) -> None:
    plugin = toy_plugin("pkt", weight="auto", auto_weight=STRICT, graph_from=graph_from)
    published = train(plugin, kind=EfficientNaive, accumulate=2, train_epochs=2).published
    assert max(published["PKT_multiplier"]) > 0 < max(published["PKT_weight"])


@pytest.mark.parametrize("teacher", ["previous", "averaged"])
def test_mixed_precision(teacher: str) -> None:
    plugins = [
        toy_plugin("rkd", weight="auto", auto_weight=STRICT, teacher=teacher),
        toy_plugin("ldifs", weight="auto", teacher=teacher),
    ]
    options: Any = {"kind": EfficientNaive, "precision": "bf16", "train_epochs": 2}
    published = train(*plugins, **options).published
    assert max(published["RKD_multiplier"]) > 0
    assert min(published["LDIFS_weight"]) > 0


# ---- saved state ----------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "epochs_left"), [(2, 2), (7, 1)])
def test_a_resumed_experience_ends_with_the_same_bits(step: int, epochs_left: int) -> None:
    """Two epochs of five balanced batches, broken off after a step."""

    def make() -> list[Any]:
        options = {
            "fda": AutoWeight(share=0.1),
            "rkd": AutoWeight(delta=0.02, maximum=0.5),
            "ldifs": AutoWeight(),
        }
        return [toy_plugin(n, weight="auto", auto_weight=o) for n, o in options.items()]

    experience, plugins = classic(1).train_stream[0], make()
    notes = Notes(*plugins)
    whole = gentle(*plugins, notes, adam=False, train_epochs=2)
    whole.train(experience, eval_streams=[])
    again, model = make(), toy_model(seed=7)
    for plugin, state in zip(again, notes.states[step - 1], strict=True):
        plugin.load_state_dict(state)
        assert plugin.state_dict()["auto_weight"].keys() == state["auto_weight"].keys()
    model.load_state_dict(notes.weights[step - 1])
    rest = Notes(*again)
    resumed = gentle(*again, rest, model=model, adam=False, train_epochs=epochs_left)
    resumed.train(experience, eval_streams=[])
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    for left, right in zip(plugins, again, strict=True):
        assert multipliers(left) == multipliers(right)
    assert multipliers(plugins[1])[""] > 0
    for last in ("RKD_weight", "LDIFS_weight"):
        assert min(rest.published[last]) > 0
        assert notes.published[last][-epochs_left:] == rest.published[last]


# ---- bad input ------------------------------------------------------------------------------


def test_a_term_that_is_not_finite_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = toy_plugin("rkd", weight="auto")
    bad = torch.tensor(float("nan"))
    monkeypatch.setattr(plugin, "compare", lambda s, t: {"relations": ("auto", s.sum() * bad)})
    with pytest.raises(ValueError, match=r"RKD: weight='auto' measures the term.*give weight a"):
        train(plugin)


@pytest.mark.parametrize(("name", "limit", "step"), [("rkd", "maximum", 1), ("ldifs", "share", 2)])
def test_a_term_that_stops_being_finite_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, limit: str, step: int
) -> None:
    plugin = toy_plugin(name, weight="auto")
    real, calls = plugin.compare, []

    def later(student: Tensor, teacher: Tensor) -> Any:
        calls.append(1)
        bad = float("nan") if len(calls) > 3 else 1.0
        return {n: (c, value * bad) for n, (c, value) in real(student, teacher).items()}

    monkeypatch.setattr(plugin, "compare", later)
    words = rf"iteration {step}: .* or the {limit} of {plugin.name}'s auto_weight"
    with pytest.raises(ValueError, match=words):
        train(plugin)


def test_a_batch_of_one_sample_has_no_scale() -> None:
    """One sample has no spread, so a drift does not move the term."""
    with pytest.raises(ValueError, match=r"LwF: .*one sample.*raise train_mb_size"):
        train(toy_plugin("lwf", weight="auto"), train_mb_size=1)


@pytest.mark.parametrize("seed", [0, 1, 3])
@pytest.mark.parametrize("name", ["pkt", "soft-fda"])
def test_features_that_are_nearly_alike_have_no_scale(name: str, seed: int) -> None:
    """A drift moves the term by rounding alone, of either sign."""
    model = toy_model(seed)
    with torch.no_grad():
        model.backbone[5].weight.mul_(0.02)
        model.backbone[5].bias.fill_(1.0)
    options = {"hard_class_batches": False} if name == "soft-fda" else {}
    with pytest.raises(ValueError, match="or their features are nearly alike"):
        train(toy_plugin(name, weight="auto", **options), model=model, experiences=1)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"auto_weight=.* has no effect with weight=1.0"):
        toy_plugin("pkt", weight=1.0, auto_weight=AutoWeight())
    with pytest.raises(TypeError, match=r"auto_weight is a dict: pass AutoWeight"):
        toy_plugin("pkt", weight="auto", auto_weight={"delta": 1})
    with pytest.raises(TypeError, match=r"reference_weight='most' must be a number, or 'auto'"):
        toy_plugin("pkt", reference_weight="most", reference_data=toy_reference_data())
    with pytest.raises(ValueError, match=r"reference_weight=auto has no effect without"):
        toy_plugin("pkt", reference_weight="auto")
