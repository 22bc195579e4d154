"""Every method without a graph: streams, heads, optimizers, exact resume, options."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from benchmarks.methods.registry import METHODS
from tests.methods import (
    ON_GRAPH,
    ON_WEIGHTS,
    PLUGINS,
    WITH_CACHE,
    accepted,
    arguments,
    toy_plugin,
)
from tests.plugins.toys import (
    Growing,
    Multi,
    Plain,
    classic,
    hooks_of,
    learn,
    modern,
    same,
    strategy,
    tasks,
)

RIVALS = tuple(method for method in PLUGINS if method not in ON_GRAPH)
METRIC = {
    "l2sp": "L2SP_distance",
    "ldifs": "LDIFS_distance",
    "digrap": "DiGraP_conflict",
    "rift": "RIFT_covariance",
    "rkd": "RKD_relations",
    "pkt": "PKT_divergence",
    "lwf": "LwF_distillation",
    "zscl": "ZSCL_reference_similarities",
    "lipsum-ft": "LipsumFT_energies",
    "snd": "SND_reference_selected",
    "dive": "DiVE_reference_differences",
}
FORWARDS = {"lwf": 2 / 3, "snd": 5 / 3}
"""Teacher forwards a step of three experiences, for methods that have not 1.

LwF has old units in two of them, and SND has two teachers in two of them.
"""
FEATURES = tuple(method for method in RIVALS if method in WITH_CACHE)
every = pytest.mark.parametrize("method", RIVALS)


def metric(trained: Any, method: str) -> float:
    return trained.evaluator.get_last_metrics()[f"{METRIC[method]}_Epoch/train_phase/train_stream"]


@every
@pytest.mark.parametrize(
    ("benchmark", "model", "adam"),
    [
        (classic, Plain, False),
        (classic, Growing, True),
        (modern, Plain, True),
        (modern, Growing, False),
    ],
    ids=["nc-static-sgd", "nc-growing-adamw", "ci-static-adamw", "ci-growing-sgd"],
)
def test_streams_heads_and_optimizers(method: str, benchmark: Any, model: Any, adam: bool) -> None:
    """Each two of a stream, a head and an optimizer meet."""
    own = toy_plugin(method, **accepted(method, teacher_cache="off"))
    trained = strategy(model(), own, adam=adam, train_epochs=2)
    state = learn(trained, benchmark(3))
    assert all(v.isfinite().all() for v in state.values())
    if method in METRIC:
        assert metric(trained, method) > 0 or method == "digrap"
    assert hooks_of(trained.model) == 0 and own.reference is None
    if method in FEATURES:  # the experiences have equally many steps
        steps = trained.clock.train_iterations
        assert own.teacher_forwards == pytest.approx(steps * FORWARDS.get(method, 1))


@every
@pytest.mark.parametrize("benchmark", [tasks, lambda: classic(3, True)], ids=["sets", "nc"])
@pytest.mark.parametrize("adam", [False, True], ids=["sgd", "adamw"])
def test_multi_head(method: str, benchmark: Any, adam: bool) -> None:
    trained = strategy(Multi(), toy_plugin(method), adam=adam)
    learn(trained, benchmark())
    if method in METRIC:
        assert metric(trained, method) > 0 or method == "digrap"
    assert hooks_of(trained.model) == 0


@every
def test_the_initial_reference_is_the_model_as_given(method: str) -> None:
    own = toy_plugin(method, reference="initial")
    model = Plain()
    given = {k: v.clone() for k, v in model.state_dict().items() if k.startswith("backbone")}
    learn(strategy(model, own), classic(3))
    if method in ON_WEIGHTS:
        kept = own.reference.tensors
    else:  # the teacher may have kept the backbone alone
        root = own.reference.root + "." if own.reference.root else ""
        kept = {root + k: v for k, v in own.reference.module.state_dict().items()}
    assert {"backbone.1.weight", "backbone.5.bias"} <= set(kept)
    assert all(torch.equal(given[k], v) for k, v in kept.items() if k in given)
    assert not torch.equal(model.state_dict()["backbone.1.weight"], given["backbone.1.weight"])


NOTHING = {
    method: 1.0 if METHODS[method].weakens else 0.0
    for method in RIVALS
    if METHODS[method].knob is not None and method != "magmax"  # which always merges
}
"""Strengths at which a method does nothing."""


@pytest.mark.parametrize("method", NOTHING)
@pytest.mark.parametrize("adam", [False, True], ids=["sgd", "adamw"])
def test_without_strength_it_is_plain_training_bit_for_bit(method: str, adam: bool) -> None:
    finals = []
    for plugins in ([], [toy_plugin(method, strength=NOTHING[method])]):
        torch.manual_seed(0)
        trained = strategy(Growing(), *plugins, adam=adam, train_epochs=2)
        finals.append((learn(trained, classic(2)), torch.rand(1)))
    assert same(finals[0][0], finals[1][0]) and finals[0][1] == finals[1][1]


class Note(SupervisedPlugin[Any]):
    """Keeps the plugin's state, the model and torch's random stream after each step."""

    def __init__(self, own: Any) -> None:
        super().__init__()
        self.own = own
        self.kept: list[Any] = []

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        model = strategy.model.state_dict()
        optimizer = strategy.optimizer.state_dict()
        self.kept.append(copy.deepcopy((self.own.state_dict(), model, optimizer)))


@every
@pytest.mark.parametrize("choice", ["previous", "initial"])
def test_resume_inside_an_experience(method: str, choice: str) -> None:
    """Two epochs in experience 1, broken off between them; the rest is the same as unbroken."""
    benchmark, own = classic(2), toy_plugin(method, reference=choice)
    note = Note(own)
    options: dict[str, Any] = {"train_mb_size": 60}  # an epoch is a step
    whole = strategy(Plain(dropout=0.0), own, note, train_epochs=2, **options)
    for experience in benchmark.train_stream:
        whole.train(experience, eval_streams=[], shuffle=False)
    own_state, model_state, optimizer_state = note.kept[2]  # the first step of experience 1
    again, model = toy_plugin(method, reference=choice), Plain(seed=7, dropout=0.0)
    again.load_state_dict(own_state)
    saved_again = again.state_dict()  # before the first training
    assert saved_again.keys() == own_state.keys()
    again.load_state_dict(saved_again)
    model.load_state_dict(model_state)
    resumed = strategy(model, again, train_epochs=1, **options)
    resumed.clock.train_exp_counter = 1
    resumed.optimizer.load_state_dict(optimizer_state)
    resumed.make_optimizer = lambda **kwargs: None  # Avalanche forgets its state at the first call
    resumed.train(benchmark.train_stream[1], eval_streams=[], shuffle=False)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(
            model.state_dict()[name], value, msg=lambda m, n=name: f"{n}: {m}"
        )


@every
@pytest.mark.parametrize("choice", ["previous", "initial"])
def test_a_state_from_inside_an_experience_needs_the_clock(method: str, choice: str) -> None:
    own, fresh = (toy_plugin(method, reference=choice) for _ in range(2))
    note, benchmark = Note(own), classic(2)
    trained, other = strategy(Plain(), own, note), strategy(Plain(), fresh)
    trained.train(benchmark.train_stream, eval_streams=[])
    fresh.load_state_dict(note.kept[-1][0])
    with pytest.raises(ValueError, match=r"inside experience 1, .*train_exp_counter = 1"):
        other.train(benchmark.train_stream[1], eval_streams=[])
    fresh.load_state_dict(own.state_dict())  # taken after both: no clock is needed
    other.train(benchmark.train_stream[1], eval_streams=[])


@pytest.mark.parametrize("method", FEATURES)
def test_a_teacher_in_eval_mode_that_never_changes(method: str) -> None:
    seen: list[dict[str, Tensor]] = []

    class Look(SupervisedPlugin[Any]):
        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            teacher = own.reference.module
            assert not any(m.training for m in teacher.modules())
            assert all(m.training for m in strategy.model.modules())
            seen.append(copy.deepcopy(teacher.state_dict()))

    own = toy_plugin(method)
    trained = strategy(Plain(), own, Look(), train_epochs=3)
    trained.train(classic(2).train_stream[0], eval_streams=[])
    assert len(seen) == 9 and all(same(seen[0], state) for state in seen)


@every
def test_pickling_between_experiences(method: str) -> None:
    dill = pytest.importorskip("dill")
    trained, benchmark = strategy(Growing(), toy_plugin(method)), classic(2)
    trained.train(benchmark.train_stream[0], eval_streams=[])
    earlier = dill.settings["byref"]
    dill.settings["byref"] = True
    try:
        again = dill.loads(dill.dumps(trained))
    finally:
        dill.settings["byref"] = earlier
    for each in (trained, again):
        torch.manual_seed(0)
        each.train(benchmark.train_stream[1], eval_streams=[])
    assert same(again.model.state_dict(), trained.model.state_dict())


def at_place(method: str, place: Any) -> dict[str, Any]:
    """Return the option of a method that gives the place where it reads the student."""
    return {"taps": (place,)} if "taps" in arguments(method) else {"feature_module": place}


@every
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"name": "x", "reference": "last"}, ValueError, r"(teacher|anchor)='last' is unknown"),
        ({"strength": -1.0}, ValueError, r"=-1.0 must be finite and not negative"),
        ({"strength": float("nan")}, ValueError, "=nan must be finite"),
        ({"strength": "1"}, TypeError, "='1' must be a number"),
        ({"feature_module": 3}, TypeError, "(feature_module|taps)=3 must be"),
        ({"feature_module": ":input"}, ValueError, "(feature_module|taps)=':input' is empty"),
    ],
)
def test_options(method: str, options: Any, error: type[Exception], words: str) -> None:
    given = {k: v for k, v in options.items() if k != "feature_module"}
    if "feature_module" in options:
        given |= at_place(method, options["feature_module"])
    with pytest.raises(error, match=words):
        toy_plugin(method, **given)


@every
def test_one_plugin_for_two_strategies_and_data_parallel(method: str) -> None:
    own, experience = toy_plugin(method), classic().train_stream[0]
    first, second = strategy(Plain(), own), strategy(Plain(), own)
    first.train(experience, eval_streams=[])
    with pytest.raises(ValueError, match="belongs to another strategy"):
        second.train(experience, eval_streams=[])
    parallel = strategy(nn.DataParallel(Plain()), toy_plugin(method))
    with pytest.raises(TypeError, match=r"nn\.DataParallel"):
        parallel.train(experience, eval_streams=[])


@every
def test_an_unknown_module_is_answered_with_near_ones(method: str) -> None:
    place = "backbon" if method == "ldifs" else "backbon:input"
    trained = strategy(Plain(), toy_plugin(method, **at_place(method, place)))
    words = r"(taps|feature_module)='backbon' is not a module of Plain; near names: backbone"
    with pytest.raises(ValueError, match=words):
        trained.train(classic().train_stream[0], eval_streams=[])


@pytest.mark.parametrize("method", [*FEATURES, "l2sp"])
def test_nan_names_experience_and_iteration(method: str) -> None:
    class Breaks(SupervisedPlugin[Any]):
        def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            if strategy.clock.train_iterations == 4:  # the second step of experience 1
                with torch.no_grad():
                    strategy.model.backbone[5].bias.fill_(torch.nan)

    trained = strategy(Plain(), toy_plugin(method), Breaks())
    trained.train(classic().train_stream[0], eval_streams=[])
    with pytest.raises(ValueError, match="NaN or Inf in experience 1, iteration 1: "):
        trained.train(classic().train_stream[1], eval_streams=[])


@every
def test_online_streams_keep_one_reference_for_an_experience(method: str) -> None:
    from avalanche.benchmarks.scenarios.online import split_online_stream

    made: list[Any] = []

    class Look(SupervisedPlugin[Any]):
        def before_forward(self, strategy: Any, **kwargs: Any) -> None:
            made.append(own.reference)

    own = toy_plugin(method)
    trained = strategy(Plain(), own, Look())
    for part in split_online_stream(classic(2).train_stream, 30):
        trained.train(part, eval_streams=[])
    assert len(made) == 8
    if method != "lp-ft":  # which drops its teacher when the probe is fitted
        assert len({id(r) for r in made[:4]}) == len({id(r) for r in made[4:]}) == 1
        assert made[0] is not made[4]


@every
def test_a_state_between_two_parts_of_an_online_experience_goes_on(method: str) -> None:
    from avalanche.benchmarks.scenarios.online import split_online_stream

    parts = list(split_online_stream(classic(2).train_stream, 20))
    own, fresh = toy_plugin(method), toy_plugin(method)
    trained = strategy(Plain(), own)
    trained.train(parts[0], eval_streams=[])
    fresh.load_state_dict(copy.deepcopy(own.state_dict()))
    resumed = strategy(Plain(), fresh)
    resumed.clock.train_exp_counter = 1
    resumed.train(parts[1], eval_streams=[])
    if method != "lp-ft":
        assert fresh.reference is not None and own.reference is not None
    else:
        assert fresh.fitted == {}  # fitted to the first part
    resumed.train(parts[2], eval_streams=[])  # the last one
    if fresh.choice == "previous":
        assert fresh.reference is None


@every
def test_the_next_experience_after_a_failed_one_is_no_second_try(method: str) -> None:
    class Fails(SupervisedPlugin[Any]):
        armed = True

        def before_backward(self, strategy: Any, **kwargs: Any) -> None:
            if self.armed and strategy.clock.train_exp_iterations:
                raise KeyboardInterrupt

    own, fails = toy_plugin(method), Fails()
    trained, benchmark = strategy(Plain(), own, fails), classic(2)
    with pytest.raises(KeyboardInterrupt):
        trained.train(benchmark.train_stream[0], eval_streams=[])
    first, fails.armed = own.reference, False
    seen: list[Any] = []

    class Look(SupervisedPlugin[Any]):
        def before_forward(self, strategy: Any, **kwargs: Any) -> None:
            seen.append(own.reference)

    trained.plugins.insert(0, Look())
    trained.train(benchmark.train_stream[1], eval_streams=[])
    if method == "lp-ft":
        assert own.fitted
    else:
        assert seen[0] is not first
