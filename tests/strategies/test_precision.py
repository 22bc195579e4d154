"""bf16 and fp16: dtypes in training, gradients, and skipped steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from avalanche.models import MultiHeadClassifier
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda import EfficientNaive, FDAPlugin, ProxyFDAPlugin
from avalanche_proxyfda.features.tap import FeatureTap
from avalanche_proxyfda.metrics import Panel, PanelSet
from avalanche_proxyfda.strategies.precision import autocast
from avalanche_proxyfda.teacher.cached import CachedTeacher
from avalanche_proxyfda.teacher.teacher import FeatureTeacher
from tests.methods import PLUGINS, toy_plugin
from tests.plugins.toys import Blobs, Growing, Multi, Plain, classic, learn, same, strategy
from tests.strategies.common import Smooth, Steps, acting, one_experience, trained

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
both = pytest.mark.parametrize("precision", ["bf16", "fp16"])


HEADS: dict[str, Callable[[], nn.Module]] = {"static": Plain, "growing": Growing, "multi": Multi}


@pytest.mark.parametrize(
    ("heads", "accumulate", "precision"),
    [
        *(("growing", n, precision) for n in (1, 2) for precision in DTYPES),
        *((heads, 2, precision) for heads in ("static", "multi") for precision in DTYPES),
        ("multi", 2, "float32"),
    ],
)
@pytest.mark.parametrize("method", PLUGINS)
@pytest.mark.filterwarnings("ignore:num_neighbors=4 is clamped")
def test_every_plugin_stays_finite(
    method: str, heads: str, precision: str, accumulate: int
) -> None:
    torch.manual_seed(0)  # seeds the model, on which the number of skipped updates depends
    own = acting(method)
    more = {"precision": precision, "accumulate": accumulate, "train_mb_size": 12}
    made = strategy(HEADS[heads](), own, adam=True, kind=EfficientNaive, **more)
    data = classic(2, task_labels=heads == "multi")
    state = learn(made, data, shuffle=False)
    assert all(v.isfinite().all() and v.dtype not in DTYPES.values() for v in state.values())
    metrics = made.evaluator.get_last_metrics()
    assert all(value == value for value in metrics.values() if isinstance(value, float))
    assert made.skipped_updates <= 3  # while the first loss scale, 65536, comes down


@pytest.mark.parametrize("masking", [False, True])
@both
def test_task_heads_learn_as_in_float32(precision: Any, masking: bool) -> None:
    """Logits and gradients of a batch with two tasks equal those in float32."""
    heads, model = MultiHeadClassifier(8, 2, masking=masking), nn.Linear(16, 8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images = torch.randn(12, 16)
        for experience in classic(2, task_labels=True).train_stream:
            heads.adaptation(experience)
    labels = torch.arange(12) % 2

    def run(kind: Any) -> list[Tensor]:
        with autocast(kind, torch.device("cpu"), heads):
            logits = heads(model(images), labels)
        loss = nn.functional.cross_entropy(logits, labels)
        return [logits, *torch.autograd.grad(loss, list(model.parameters()))]

    expected, found = run("float32"), run(precision)
    assert found[0].dtype == torch.float32 and "forward_single_task" not in vars(heads)
    for ours, value in zip(found, expected, strict=True):
        assert 0 < (ours - value).norm() < 0.03 * value.norm()


@both
def test_what_is_lower_and_what_is_not(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of student and teacher are of one precision, and equal at the first step."""
    students: list[Any] = []
    teachers: list[Any] = []
    take, values = FeatureTap.take, CachedTeacher.values

    def taken(tap: FeatureTap) -> Any:
        students.append(take(tap))
        return students[-1]

    def valued(teacher: CachedTeacher, *args: Any, **kwargs: Any) -> Any:
        teachers.append(values(teacher, *args, **kwargs))
        return teachers[-1]

    monkeypatch.setattr(FeatureTap, "take", taken)
    monkeypatch.setattr(CachedTeacher, "values", valued)
    terms: list[Tensor] = []
    own = FDAPlugin(num_neighbors=4, hard_class_batches=False)
    kept = own.compare

    def noted(*args: Any) -> Any:
        made = kept(*args)
        terms.extend(value for _, value in made.values())
        return made

    monkeypatch.setattr(own, "compare", noted)

    class Types(SupervisedPlugin[Any]):
        def __init__(self) -> None:
            super().__init__()
            self.found: set[Any] = set()

        def before_backward(self, strategy: Any, **kwargs: Any) -> None:
            self.found.add((strategy.mb_output.dtype, strategy.loss.dtype))

        def after_eval_iteration(self, strategy: Any, **kwargs: Any) -> None:
            self.found.add((strategy.mb_output.dtype, strategy.loss.dtype))

    types = Types()
    made, seen = trained(Smooth(), own, types, precision=precision)
    made.eval([one_experience(Blobs(30))])
    lower = DTYPES[precision]
    assert types.found == {(lower, torch.float32)}
    assert {t.dtype for t in terms} == {torch.float32} and len(terms) == 3
    assert {g.dtype for step in seen.gradients for g in step.values()} == {torch.float32}
    first = [next(iter(found.values())) for found in (students[0], teachers[0])]
    assert first[0].dtype == first[1].dtype == lower and torch.equal(*first)


@both
def test_evaluation_is_of_the_precision_of_training(precision: str) -> None:
    made, _ = trained(Smooth(), precision=precision)
    outputs: list[Tensor] = []

    class Keep(SupervisedPlugin[Any]):
        def after_eval_forward(self, strategy: Any, **kwargs: Any) -> None:
            outputs.append(strategy.mb_output)

    made.plugins.append(Keep())
    made.eval([one_experience(Blobs(30))])
    with torch.no_grad(), torch.autocast("cpu", dtype=DTYPES[precision]):
        expected = made.model(torch.stack([Blobs(30)[k][0] for k in range(30)]))
    assert torch.equal(torch.cat(outputs), expected)


@both
@pytest.mark.parametrize("accumulate", [1, 2])
def test_before_update_sees_the_gradients_themselves(precision: str, accumulate: int) -> None:
    """Gradients of model and plugin equal those in float32, within the precision."""

    def run(**options: Any) -> Steps:
        own = ProxyFDAPlugin(num_neighbors=4, hard_class_batches=False)
        return trained(Smooth(), own, **options)[1]

    expected = run(accumulate=accumulate)
    found = run(accumulate=accumulate, precision=precision)
    for name, value in expected.gradients[0].items():
        assert (found.gradients[0][name] - value).norm() < 0.03 * value.norm(), name
    pairs = list(zip(found.own[0], expected.own[0], strict=True))
    assert len(pairs) > 2 and any(value.norm() > 0 for _, value in pairs)
    for ours, value in pairs:
        assert (ours - value).norm() < 0.1 * value.norm() + 1e-5


class Poison(SupervisedPlugin[Any]):
    """Puts an infinity into one gradient of some steps."""

    def __init__(self, steps: set[int], own: Any = None) -> None:
        super().__init__()
        self.steps, self.own, self.step = steps, own, 0

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        held = strategy.model if self.own is None else self.own.loss
        if self.step in self.steps:
            next(p for p in held.parameters() if p.grad is not None).grad.view(-1)[0] = torch.inf
        self.step += 1


def state_of(strategy: Any, own: Any) -> dict[str, Tensor]:
    held = {k: v.clone() for k, v in strategy.model.state_dict().items()}
    held.update({f"own.{k}": v.clone() for k, v in own.loss.state_dict().items()})
    steps = own.optimizer.state_dict()["state"]
    held.update({f"steps.{k}": v["step"].clone() for k, v in steps.items()})
    return held


@pytest.mark.parametrize("whose", ["model", "plugin"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_overflow_skips_the_step_of_all_and_training_goes_on(
    whose: str, accumulate: int
) -> None:
    own = ProxyFDAPlugin(num_neighbors=4, hard_class_batches=False)
    digrap = toy_plugin("digrap")
    poison = Poison({accumulate}, own if whose == "plugin" else None)  # in the second step
    states: list[dict[str, Tensor]] = []
    scales: list[float] = []

    class States(SupervisedPlugin[Any]):
        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            if strategy.pending_micro_batches == 0:
                states.append(state_of(strategy, own))
                scales.append(strategy.scaler.get_scale())

    made, seen = trained(
        Smooth(),
        own,
        digrap,
        poison,
        States(),
        batch=20 // accumulate,
        precision="fp16",
        accumulate=accumulate,
        adam=True,
    )
    assert len(states) == 3 and made.skipped_updates == 1
    assert same(states[0], states[1]) and not same(states[1], states[2])
    assert scales == [65536.0, 32768.0, 32768.0]
    assert seen.calls.count("update") == seen.calls.count("updated") == 2
    assert all(g.isfinite().all() for step in seen.gradients for g in step.values())
    assert all(g.isfinite().all() for step in seen.own for g in step)
    assert all(value.isfinite().all() for value in states[2].values())
    assert made.evaluator.get_last_metrics()["DiGraP_omega_Epoch/train_phase/train_stream"] >= 0


def test_a_scale_that_is_too_large_comes_down_by_itself() -> None:
    """A real overflow: gradients in float16 at a scale of 2**30."""
    own = FDAPlugin(num_neighbors=4)
    made = strategy(
        Smooth(), own, kind=EfficientNaive, precision="fp16", train_mb_size=12, train_epochs=8
    )
    made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    before = {k: v.clone() for k, v in made.model.state_dict().items()}
    made.train(one_experience(Blobs(60)), eval_streams=[])
    after = made.model.state_dict()
    assert 3 < made.skipped_updates < 30
    assert made.scaler.get_scale() == 2.0 ** (30 - made.skipped_updates)
    assert not same(before, after) and all(v.isfinite().all() for v in after.values())


def test_training_that_has_diverged_says_so() -> None:
    poison = Poison(set(range(1000)))
    made = strategy(Smooth(), poison, kind=EfficientNaive, precision="fp16", train_epochs=50)
    with pytest.raises(ValueError, match=r"not finite even at a loss scale of .*has diverged"):
        made.train(one_experience(Blobs(60)), eval_streams=[])


@pytest.mark.parametrize("mining", ["bank", "prototypes"])
def test_passes_before_training_have_the_precision_of_training(
    mining: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LP-FT's probe, feature banks and prototypes read the teacher as the steps do."""
    dtypes: list[Any] = []
    live = FeatureTeacher.live

    def noted(teacher: FeatureTeacher, images: Tensor, autocast: Any, forward: Any) -> Any:
        dtypes.append(autocast)
        return live(teacher, images, autocast, forward)

    monkeypatch.setattr(FeatureTeacher, "live", noted)
    options = {"mining": mining, "classes_per_batch": 2, "teacher_cache": "off"}
    own = [toy_plugin("lp-ft"), toy_plugin("fda", hard_class_batches=True, **options)]
    trained(Smooth(), *own, precision="bf16")
    assert set(dtypes) == {torch.bfloat16} and len(dtypes) > 4


@both
def test_a_panel_has_the_precision_of_training(precision: Any) -> None:
    made, _ = trained(Smooth(), precision=precision)
    panel = Panel([PanelSet("blobs", Blobs(30), Blobs(12, seed=1))], "backbone")
    found = panel.at(made)["blobs"].splits["test"][0]
    with torch.no_grad(), torch.autocast("cpu", dtype=DTYPES[precision]):
        expected = made.model.eval().backbone(Blobs(12, seed=1).images)
    assert found.dtype == torch.float32 and torch.equal(found, expected.float())
    plain = panel.of(made.model, torch.device("cpu"))["blobs"].splits["test"][0]
    assert 0 < (plain - found).norm() < 0.03 * plain.norm()
