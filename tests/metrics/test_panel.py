"""Panel metrics: their values, what they share, and that they change nothing."""

from __future__ import annotations

import copy
import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import Tensor, nn

from avalanche_proxyfda import ProxyFDAPlugin
from avalanche_proxyfda.metrics import (
    MEASURES,
    DriftMetric,
    KNNMetric,
    LinearProbeMetric,
    Measure,
    Panel,
    PanelFeatures,
    PanelMetric,
    PanelSet,
    ZeroShotMetric,
    fit_probe,
    linear_cka,
    mean_l2,
    measure_names,
    neighbor_overlap,
    panel_metrics,
    probe_accuracies,
    select_probe,
    zero_shot_accuracies,
)
from avalanche_proxyfda.models import TaskHeads, TextHead
from tests.plugins.toys import Blobs, Growing, Multi, Plain, backbone, classic, modern, same, tasks


def panel(**options: Any) -> Panel:
    sets = [
        PanelSet("a", Blobs(60, 3, seed=5), Blobs(30, 3, seed=6), Blobs(30, 3, seed=7)),
        PanelSet("b", Blobs(40, 2, seed=8), Blobs(20, 2, seed=9)),
    ]
    return Panel(sets, batch_size=16, **options)


def heads() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"a": TextHead(torch.randn(3, 8)), "b": TextHead(torch.randn(2, 8))}


def trained(build: Any, benchmark: Any, metrics: list[PanelMetric]) -> Any:
    """A strategy after its stream; ``eval`` after each experience, as everyone does."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    model = build if isinstance(build, nn.Module) else build()  # heads are drawn, too
    strategy = Naive(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=20,
        plugins=[ProxyFDAPlugin(num_neighbors=4)],
        evaluator=EvaluationPlugin(accuracy_metrics(stream=True), metrics, loggers=[]),
    )
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream[: experience.current_experience + 1])
    return strategy


@pytest.mark.parametrize(
    ("model", "benchmark"),
    [
        (Plain, classic),
        (Growing, modern),
        (Multi, tasks),
        (lambda: TaskHeads(backbone(), 8, [3, 5]), tasks),
    ],
    ids=["static", "growing", "multi", "unit"],
)
def test_metrics_change_no_weight_and_no_random_stream(model: Any, benchmark: Any) -> None:
    pytest.importorskip("ot")
    own = panel()
    metrics = panel_metrics(own, True, True, heads(), ("l2", "cka", "neighbors", "otdd-kmeans"))
    with_them = trained(model, benchmark(), metrics)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    without = trained(model, benchmark(), [])
    assert same(with_them.model.state_dict(), without.model.state_dict())
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert states[2] == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert own.passes == 3 * 2  # before and after each of two experiences, each set once
    last = with_them.evaluator.get_last_metrics()
    accuracies = "LP/a", "Delta_LP/b", "KNN/a", "Delta_ZS/mean"
    drifts = "Drift_L2/a", "Drift_OTDD_KMeans/b", "Drift_CKA/mean", "Drift_Neighbors/b"
    for name in accuracies + drifts:
        assert np.isfinite(last[name]), name
    assert "Delta_Drift_L2/a" not in last


def features(model: nn.Module, data: Blobs) -> torch.Tensor:
    with torch.no_grad():
        rows: torch.Tensor = copy.deepcopy(model).eval().backbone(data.images)  # type: ignore[operator]
    return rows


def test_values_are_those_of_the_functions_by_hand() -> None:
    model, own = Plain(), panel()
    first = copy.deepcopy(model)
    probe, zero = LinearProbeMetric(own, grid=(1e-3,)), ZeroShotMetric(own, heads())
    drift = DriftMetric(own, num_neighbors=4)
    trained(model, classic(2), [probe, zero, drift])
    train, test = Blobs(60, 3, seed=5), Blobs(30, 3, seed=6)
    labels = torch.tensor(train.targets), torch.tensor(test.targets)
    found = []
    for state in (first, model):
        rows = features(state, train), features(state, test)
        fitted = fit_probe(rows[0], labels[0], 3, 1e-3)
        texts: Any = heads()["a"]
        guesses = texts(rows[1]).argmax(dim=1)
        found.append((fitted.accuracy(rows[1], labels[1]), (guesses == labels[1]).double().mean()))
    assert len(probe.history) == 3
    assert probe.history[0]["LP/a"] == pytest.approx(found[0][0])
    assert probe.history[2]["LP/a"] == pytest.approx(found[1][0])
    assert probe.history[2]["Delta_LP/a"] == pytest.approx(found[1][0] - found[0][0])
    assert zero.history[2]["Delta_ZS/a"] == pytest.approx(float(found[1][1] - found[0][1]))
    mean = (probe.history[2]["LP/a"] + probe.history[2]["LP/b"]) / 2
    assert probe.history[2]["LP/mean"] == pytest.approx(mean)
    before, after = features(first, test), features(model, test)
    values = drift.history[2]
    assert values["Drift_L2/a"] == pytest.approx(mean_l2(before, after), rel=1e-5)
    assert values["Drift_CKA/a"] == pytest.approx(linear_cka(before, after), rel=1e-5)
    assert values["Drift_Neighbors/a"] == pytest.approx(neighbor_overlap(before, after, 4))
    assert drift.history[0]["Drift_L2/a"] == 0 and drift.history[0]["Drift_Neighbors/a"] == 1


def test_drift_since_the_previous_moment() -> None:
    own = panel()
    initial, previous = DriftMetric(own, ("l2",)), DriftMetric(own, ("l2",), "previous")
    trained(Plain(), classic(2), [initial, previous])
    assert initial.history[1] == previous.history[1]
    assert 0 < previous.history[2]["Drift_L2/a"] != initial.history[2]["Drift_L2/a"]


def test_a_measure_that_is_registered_is_a_value_of_the_metric(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gap(before: Tensor, after: Tensor, labels: Tensor, k: int) -> float:
        return float((before - after).abs().max()) + len(labels) + k

    plain, before = DriftMetric(panel()), measure_names()
    monkeypatch.setitem(MEASURES, "gap", Measure(gap, "_Gap"))
    monkeypatch.setitem(MEASURES, "slow gap", Measure(gap, "_SlowGap", optional=True))
    every, asked = DriftMetric(panel(), num_neighbors=4), DriftMetric(panel(), ("slow gap",))
    assert plain.measures == before and before[:3] == ("l2", "cka", "neighbors")
    assert every.measures == (*before, "gap")
    trained(Plain(), classic(2), [every, asked])
    assert every.history[0]["Drift_Gap/a"] == 30 + 4 and every.history[0]["Drift_Gap/b"] == 20 + 4
    assert every.history[2]["Drift_Gap/a"] > 34
    assert set(asked.history[0]) == {f"Drift_SlowGap/{name}" for name in ("a", "b", "mean")}


def test_the_first_moment_is_kept_when_training_goes_on_and_forgotten_by_reset() -> None:
    own = panel()
    metric = LinearProbeMetric(own)
    strategy = trained(Plain(), classic(2), [metric])
    strategy.train(classic(2).train_stream[0], eval_streams=[])
    assert len(metric.history) == 4  # no second "before the stream"
    assert metric.result() == metric.history[-1]
    metric.reset()
    assert metric.result() is None and metric.history == []


def test_a_metric_is_of_one_strategy_until_it_is_reset() -> None:
    metric = KNNMetric(panel())
    trained(Plain(), classic(2), [metric])
    first = metric.history[0]
    kept = trained(Plain(), classic(2), [])
    kept.evaluator.metrics = [metric]
    with pytest.raises(ValueError, match="holds the moments of another strategy"):
        metric.before_training(kept)
    metric.reset()
    metric.before_training(kept)
    assert len(metric.history) == 1 and metric.history[0] != first


def test_weights_that_change_without_a_step_are_measured_again() -> None:
    own = panel()
    strategy = trained(Plain(), classic(2), [])
    before = own.at(strategy)["a"].splits["test"][0]
    assert own.at(strategy)["a"].splits["test"][0] is before and own.passes == 2
    with torch.no_grad():
        strategy.model.backbone[1].weight.mul_(2)
    assert not torch.equal(own.at(strategy)["a"].splits["test"][0], before)
    strategy.model.load_state_dict(Plain().state_dict())
    own.at(strategy)
    assert own.passes == 6


def test_heads_are_asked_in_eval_mode_and_in_their_dtype() -> None:
    own = panel()
    noisy = {n: nn.Sequential(nn.Dropout(0.5), h).double().train() for n, h in heads().items()}
    metric, quiet = ZeroShotMetric(own, noisy), ZeroShotMetric(own, heads())
    state = torch.get_rng_state()
    for features in own.of(Plain(), CPU).values():
        assert metric.measure(features) == quiet.measure(features)
    assert torch.equal(torch.get_rng_state(), state) and noisy["a"].training


def test_the_held_out_fifth_is_fitted_again() -> None:
    features = panel().of(Plain(), CPU)["b"]
    value = LinearProbeMetric(panel(), grid=(1e-3,)).measure(features)[""]
    whole = fit_probe(*features.splits["train"], 2, 1e-3)
    assert value == whole.accuracy(*features.splits["test"])


def test_accuracies_are_of_validation_and_test_where_a_set_has_both() -> None:
    every = panel().of(Plain(), CPU)
    probed = {name: probe_accuracies(features) for name, features in every.items()}
    zero_shot = {name: zero_shot_accuracies(f, heads()[name]) for name, f in every.items()}
    for values in (probed, zero_shot):
        assert list(values["a"]) == ["validation", "test"] and list(values["b"]) == ["test"]
    chosen = select_probe(*every["a"].choosing(), 3)
    for split in ("validation", "test"):
        rows, labels = every["a"].splits[split]  # type: ignore[index]
        assert probed["a"][split] == chosen.accuracy(rows, labels)  # type: ignore[index]
        right = heads()["a"](rows).argmax(dim=1) == labels
        assert zero_shot["a"][split] == float(right.double().mean())  # type: ignore[index]
    assert LinearProbeMetric(panel()).measure(every["b"]) == {"": probed["b"]["test"]}


def test_a_panel_is_pickled_without_features() -> None:
    own = panel()
    trained(Plain(), classic(2), panel_metrics(own))
    assert own._features and not pickle.loads(pickle.dumps(own))._features


def test_places_by_name_and_a_held_out_fifth() -> None:
    named = panel(feature_module="backbone.1")
    found = named.of(Plain(), torch.device("cpu"))
    assert found["a"].splits["train"][0].shape == (60, 12) and found["a"].classes == 3
    train, validation = found["b"].choosing()
    assert (len(train[0]), len(validation[0])) == (32, 8)
    assert validation[1].tolist().count(0) == 4
    assert found["a"].choosing()[1][0].shape == (30, 12)


class Odd(Blobs):
    def __init__(self, targets: list[int]) -> None:
        super().__init__(len(targets), 6)
        self.targets = targets


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: PanelSet("a/b", Blobs(), Blobs()), "must be a word without '/'"),
        (lambda: PanelSet("mean", Blobs(), Blobs()), "and not 'mean'"),
        (lambda: one(Odd([0, 1]), Odd([1]))["x"].choosing(), "has one training image a class"),
        (lambda: PanelSet("a", Odd([]), Blobs()), "a: its train split is empty"),
        (lambda: Panel([]), "must be at least one, with different names"),
        (lambda: Panel([PanelSet("a", Blobs(), Blobs())] * 2), "with different names"),
        (lambda: panel(num_workers=-1), "num_workers=-1"),
        (lambda: panel(pooling="max"), "pooling='max' is unknown; choose one of"),
        (lambda: panel(feature_module="nothing").of(Plain(), CPU), "nothing"),
        (lambda: one(Odd([0, 0]), Odd([0])), "has one class; a panel set needs two"),
        (
            lambda: one(Odd([0, 1]), Odd([0, 3])),
            r"no training image of the classes \[3\], which test",
        ),
        (lambda: one(Odd([-1, 1]), Odd([1])), "labels must be from 0, but -1"),
        (lambda: LinearProbeMetric(panel(), grid=()), "must hold positive penalties"),
        (lambda: LinearProbeMetric(panel(), grid=(0.0,)), "must hold positive penalties"),
        (lambda: KNNMetric(panel(), 0), "num_neighbors=0"),
        (
            lambda: ZeroShotMetric(panel(), {"a": nn.Identity()}),
            "heads has no head for 'b': give one",
        ),
        (lambda: DriftMetric(panel(), ("l3",)), "measures=.*'l3' is unknown; did you mean 'l2'"),
        (lambda: DriftMetric(panel(), ("quite other",)), r"is unknown; choose from \('l2', 'cka'"),
        (lambda: DriftMetric(panel(), ()), r"measures=\(\) is empty"),
        (lambda: DriftMetric(panel(), since="then"), "since='then'"),  # type: ignore[arg-type]
        (lambda: panel_metrics(panel(), linear_probe=False), "asked for no metric"),
    ],
)
def test_bad_input(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


CPU = torch.device("cpu")


def one(train: Blobs, test: Blobs) -> Any:
    return Panel([PanelSet("x", train, test)]).of(Plain(), CPU)


def test_a_metric_needs_a_panel() -> None:
    with pytest.raises(TypeError, match="must be a Panel"):
        LinearProbeMetric([])  # type: ignore[arg-type]


ROWS, LABELS = torch.eye(4), torch.tensor([0, 1, 0, 1])


def own(**splits: Any) -> PanelFeatures:
    return PanelFeatures("x", splits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("splits", "error", "words"),
    [
        ({"dev": (ROWS, LABELS)}, ValueError, r"x: splits\['dev'\] is unknown; choose one of"),
        ({"test": ROWS}, TypeError, r"x: splits\['test'\] is a Tensor, and must be a pair"),
        ({"test": (ROWS.tolist(), LABELS)}, TypeError, r"splits\['test'\]\[0\] is a list"),
        ({"test": (ROWS[:0], LABELS[:0])}, ValueError, r"\[0\] has 0 rows; 1 are needed"),
        ({"test": (ROWS, LABELS[:3])}, ValueError, r"\[1\] has 3 entries, and .*\[0\] 4 rows"),
        ({"test": (ROWS, LABELS / 2)}, ValueError, r"\[1\] has the dtype torch.float32"),
        (
            {"train": (ROWS, LABELS), "test": (ROWS[:, :3], LABELS)},
            ValueError,
            r"splits\['test'\]\[0\] has 3 columns, and x: splits\['train'\]\[0\] 4: give",
        ),
    ],
)
def test_bad_features_of_a_set(splits: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        own(**splits)


def test_metrics_name_the_split_that_is_missing() -> None:
    no_train, no_test = own(test=(ROWS, LABELS)), own(train=(ROWS, LABELS))
    words = r"x has the splits \('test',\) and no 'train': give splits\['train'\]"
    for call in (
        lambda: no_train.classes,
        no_train.choosing,
        lambda: probe_accuracies(no_train),
        lambda: KNNMetric(panel()).measure(no_train),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    zero_shot = ZeroShotMetric(panel(), {**heads(), "x": TextHead(torch.eye(4))})
    metrics = LinearProbeMetric(panel()), KNNMetric(panel()), DriftMetric(panel()), zero_shot
    for metric in metrics:
        with pytest.raises(ValueError, match=r"x has the splits \('train',\) and no 'test': give"):
            metric.measure(no_test)


def test_a_head_fits_the_features() -> None:
    given = own(test=(ROWS, LABELS))
    with pytest.raises(ValueError, match=r"\[0\] has 4 columns, and head.weight 3: give features"):
        zero_shot_accuracies(given, TextHead(torch.eye(3)))
    words = r"head returns the shape \(16,\) for features \(4, 4\) of x; it must return logits"
    with pytest.raises(ValueError, match=words):
        zero_shot_accuracies(given, nn.Flatten(0))


def test_a_negative_training_label_is_no_class() -> None:
    given = own(train=(ROWS, LABELS - 1), validation=(ROWS, LABELS), test=(ROWS, LABELS))
    with pytest.raises(ValueError, match=r"holds -1: number the classes from 0"):
        probe_accuracies(PanelFeatures("x", {**given.splits, "train": (ROWS, 2 * LABELS - 1)}))
    with pytest.raises(ValueError, match="classes=1 must be at least 2"):
        probe_accuracies(given)


def test_a_model_that_no_preset_knows_is_refused_as_the_docstrings_say() -> None:
    unknown = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Softmax(dim=1))
    words = "no preset knows where the features of Sequential are: pass feature_module='NAME'"
    with pytest.raises(ValueError, match=words):
        panel().of(unknown, CPU)
    raises = (Panel.of.__doc__ or "").partition("Raises:")[2]
    assert "ValueError: when no preset knows the model and ``feature_module`` is None" in raises
    assert "which fails for a model that no preset knows" in " ".join((Panel.__doc__ or "").split())
    assert panel(feature_module="1").of(unknown, CPU)["a"].splits["test"][0].shape == (30, 3)
