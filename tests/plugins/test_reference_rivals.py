"""ZSCL, Lipsum-FT, SND and DiVE: exact starts, forwards by count, texts, state and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.model import CLIP
from torch import Tensor, nn

from avalanche_proxyfda import DiVEPlugin, LipsumFTPlugin, SNDPlugin, ZSCLPlugin
from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.models.text_head import TextHead
from avalanche_proxyfda.models.text_tower import TextTower
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.plugins.test_reference_data import Forwards, images
from tests.plugins.toys import Plain, classic, learn, strategy

KINDS = {
    "zscl": ZSCLPlugin,
    "lipsum-ft": LipsumFTPlugin,
    "snd": SNDPlugin,
    "dive": DiVEPlugin,
}
IDS = torch.tensor([[1, 4, 9, 0, 0], [1, 9, 0, 0, 0], [1, 2, 3, 9, 0]])
"""Token ids of three texts; 9 ends a text."""


def features_of_texts(count: int = 5) -> Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(3))


def data(texts: Tensor | None = None) -> ReferenceData:
    return ReferenceData(images(16), features_of_texts() if texts is None else texts, batch=8)


class Still(nn.Module):
    """A model whose training and evaluation mode agree; with a text tower if asked."""

    def __init__(self, with_tower: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.backbone = nn.Sequential(
                nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 8)
            )
            self.classifier = nn.Linear(8, 6)
            if with_tower:
                image = {"image_size": 8, "patch_size": 4, "layers": 1, "width": 8, "head_width": 8}
                text = {"context_length": 6, "vocab_size": 10, "width": 8, "heads": 1, "layers": 1}
                self.text = TextTower(CLIP(8, image, text))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.backbone(x))


class Calls:
    """Notes values, inputs and gradients of each call of a plugin's loss."""

    def __init__(self, plugin: Any) -> None:
        self.values: list[float] = []
        self.gradients: list[Tensor] = []
        self.inputs: list[tuple[Any, ...]] = []
        plugin.loss.register_forward_hook(self._note)

    def _note(self, module: nn.Module, inputs: tuple[Any, ...], value: Tensor) -> None:
        self.values.append(float(value.detach()))
        (gradient,) = torch.autograd.grad(value, inputs[0], retain_graph=True)
        self.gradients.append(gradient)
        self.inputs.append(tuple(None if x is None else x.detach().clone() for x in inputs))


@pytest.mark.parametrize("teacher", ["initial", "previous"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_step_at_the_teacher_is_exactly_zero(kind: str, teacher: str) -> None:
    plugin = KINDS[kind](teacher=teacher, reference_data=data())
    calls = Calls(plugin)
    trained = strategy(Still(), plugin)
    learn(trained, classic(2))
    steps = len(calls.values) // 2
    zeros = [0] if teacher == "initial" or kind == "snd" else [0, steps]
    for step in range(len(calls.values)):
        assert (calls.values[step] == 0) == (step in zeros)
        assert bool((calls.gradients[step] == 0).all()) == (step in zeros)
    (key,) = [key for key in trained.evaluator.get_last_metrics() if "energies" in key] or [
        key for key in trained.evaluator.get_last_metrics() if f"{plugin.name}_reference_" in key
    ]
    assert trained.evaluator.get_last_metrics()[key] > 0


@pytest.mark.parametrize("kind", ["zscl", "snd", "dive"])
def test_forwards_of_a_method_on_reference_images(kind: str) -> None:
    model = Plain()
    plugin, counter = KINDS[kind](reference_data=data()), Forwards(model)
    learn(strategy(model, plugin, counter, train_epochs=2), classic(1))
    assert counter.backbone == 2 * counter.steps
    assert counter.head == counter.steps == plugin.reference_forwards == 10
    assert plugin.teacher_forwards == 2 + 2  # two batches of all 16 images, and a check in halves
    live, counter = KINDS[kind](reference_data=data(), teacher_cache="off"), Forwards(model)
    learn(strategy(model, live, counter, train_epochs=2), classic(1))
    assert live.teacher_forwards == counter.steps


@pytest.mark.parametrize(
    ("which", "on_reference", "teacher"), [("training", 0, 1), ("reference", 1, 1), ("both", 1, 2)]
)
def test_forwards_of_lipsum_ft(which: Any, on_reference: int, teacher: int) -> None:
    model = Plain()
    plugin = LipsumFTPlugin(images=which, reference_data=data(), teacher_cache="off")
    calls, counter = Calls(plugin), Forwards(model)
    learn(strategy(model, plugin, counter), classic(1))
    assert counter.backbone == (1 + on_reference) * counter.steps
    assert plugin.reference_forwards == on_reference * counter.steps
    assert plugin.teacher_forwards == teacher * counter.steps
    sizes = {"training": {24}, "reference": {8}, "both": {8, 24}}[which]
    assert {len(inputs[0]) for inputs in calls.inputs} == sizes


def test_forwards_of_the_student_s_texts_are_counted() -> None:
    shared = data(IDS)
    plugins = [
        ZSCLPlugin(1e-3, reference_data=shared, own_texts=own, name=f"ZSCL {number}")
        for number, own in enumerate((True, True, False))
    ]
    trained = strategy(Still(with_tower=True), *plugins)
    learn(trained, classic(1))
    assert [p.reference_text_forwards for p in plugins] == [trained.clock.train_iterations, 0, 0]
    again = ZSCLPlugin(1e-3, reference_data=shared, own_texts=True)
    again.load_state_dict(plugins[0].state_dict())
    assert again.reference_text_forwards == plugins[0].reference_text_forwards > 0


def test_all_four_share_the_forwards() -> None:
    model, shared = Plain(), data()
    plugins = [kind(1e-3, reference_data=shared, teacher="initial") for kind in KINDS.values()]
    counter = Forwards(model)
    learn(strategy(model, *plugins, counter), classic(2))
    assert counter.backbone == 2 * counter.steps
    assert sum(plugin.reference_forwards for plugin in plugins) == counter.steps


def test_snd_compares_with_the_previous_and_the_initial_model() -> None:
    plugin, model = SNDPlugin(reference_data=data()), Still()
    calls, initial = Calls(plugin), {k: v.clone() for k, v in model.state_dict().items()}
    learn(strategy(model, plugin), classic(2))
    first, last = calls.inputs[0], calls.inputs[-1]
    assert torch.equal(first[1], first[2]) and not torch.equal(last[1], last[2])
    model.load_state_dict(initial)
    known = model.backbone(images(16)).detach()
    for row in last[2]:
        assert (known - row).abs().sum(dim=1).min() < 1e-5


@pytest.mark.parametrize("teacher", ["initial", "previous", "averaged"])
def test_dives_mean_lives_as_long_as_its_teacher(teacher: Any) -> None:
    plugin = DiVEPlugin(decay=0.5, teacher=teacher, reference_data=data())
    calls, means = Calls(plugin), []
    plugin.loss.register_forward_hook(lambda *_: means.append(plugin.loss.mean.clone()))
    learn(strategy(Still(), plugin), classic(2))
    mean, half = torch.zeros(8), len(means) // 2
    for step, (student, known) in enumerate(calls.inputs):
        if step == half and teacher != "initial":
            mean = torch.zeros(8)
        mean = 0.5 * mean + 0.5 * (student - known).mean(dim=0)
        torch.testing.assert_close(means[step], mean)
    assert means[-1].norm() > 0


@pytest.mark.parametrize("own_texts", [False, True])
def test_zscl_with_a_text_tower(own_texts: bool) -> None:
    """Token ids are encoded by the teacher's tower, and by the student's if asked."""
    model, plugin = (
        Still(with_tower=True),
        ZSCLPlugin(own_texts=own_texts, reference_data=data(IDS)),
    )
    calls, tower = Calls(plugin), model.text
    before = [p.clone() for p in tower.parameters()]
    with torch.no_grad():
        expected = tower(nn.functional.pad(IDS, (0, 1)))
    learn(strategy(model, plugin), classic(1))
    torch.testing.assert_close(calls.inputs[-1][2], expected)
    assert tower.scale is not None
    assert plugin.loss.scale == pytest.approx(float(tower.scale))
    moved = [not torch.equal(old, p) for old, p in zip(before, tower.parameters(), strict=True)]
    assert any(moved) == own_texts and calls.values[0] == 0
    if own_texts:
        assert not torch.allclose(calls.inputs[-1][3], expected)
    else:
        assert calls.inputs[-1][3] is None


def test_lipsum_ft_with_a_text_tower() -> None:
    model, plugin = Still(with_tower=True), LipsumFTPlugin(reference_data=data(IDS))
    calls = Calls(plugin)
    with torch.no_grad():
        expected = model.text(nn.functional.pad(IDS, (0, 1)))
    learn(strategy(model, plugin), classic(2))
    for inputs in calls.inputs:
        torch.testing.assert_close(inputs[2], expected)
    assert calls.values[0] == 0 and calls.values[-1] > 0


def test_a_named_scale_replaces_the_towers() -> None:
    model = Still(with_tower=True)
    for kind in (ZSCLPlugin, LipsumFTPlugin):
        plugin = kind(scale=7.0, reference_data=data())
        learn(strategy(model, plugin), classic(1))
        assert plugin.loss.scale == 7.0
    plugin = ZSCLPlugin(reference_data=data())
    learn(strategy(Still(), plugin), classic(1))
    assert plugin.loss.scale == 100.0


def test_without_a_text_tower_the_scale_is_the_zero_shot_heads() -> None:
    model = Still()
    model.classifier = TextHead(torch.randn(6, 8), scale=33.5)
    for kind in (ZSCLPlugin, LipsumFTPlugin):
        plugin = kind(reference_data=data())
        learn(strategy(model, plugin), classic(1))
        assert plugin.loss.scale == 33.5
    model.other = TextHead(torch.randn(6, 8), scale=10.0)
    with pytest.raises(ValueError, match=r"scales \[10.0, 33.5\]: give the plugin one, as scale="):
        learn(strategy(model, ZSCLPlugin(reference_data=data())), classic(1))


def test_a_training_that_was_broken_off_ends_the_same(tmp_path: Path) -> None:
    """All four methods, in two experiences of six steps."""

    def make() -> list[Any]:
        shared = data()
        zscl = ZSCLPlugin(teacher="previous", reference_data=shared)
        others = [SNDPlugin(reference_data=shared), DiVEPlugin(reference_data=shared)]
        return [zscl, LipsumFTPlugin(images="both", reference_data=shared), *others]

    whole = train(build(Plain, *make(), BreakOff()), classic(2), tmp_path / "whole", every=None)
    with pytest.raises(BrokenOffError):
        train(build(Plain, *make(), BreakOff(10)), classic(2), tmp_path / "broken", every=2)
    rest = make()
    again = train(build(Plain, *rest, BreakOff()), classic(2), tmp_path / "broken", every=2)
    assert alike(whole, again)
    assert rest[3].loss.mean is not None and rest[3].loss.mean.norm() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_missing_reference_data_and_texts_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"pass reference_data"):
        KINDS[kind]()
    if kind in ("zscl", "lipsum-ft"):
        with pytest.raises(ValueError, match=r"compares with texts: give the reference data texts"):
            KINDS[kind](reference_data=ReferenceData(images(), batch=8))


def test_own_texts_need_token_ids() -> None:
    plugin = ZSCLPlugin(own_texts=True, reference_data=data())
    with pytest.raises(ValueError, match=r"own_texts=True .* text features, .* token ids, int \[M"):
        learn(strategy(Still(with_tower=True), plugin), classic(1))


@pytest.mark.parametrize("kind", ["zscl", "lipsum-ft"])
def test_token_ids_without_a_text_tower_are_refused(kind: str) -> None:
    plugin = KINDS[kind](reference_data=data(IDS))
    with pytest.raises(ValueError, match=r"token ids, and Still holds no TextTower"):
        learn(strategy(Still(), plugin), classic(1))


@pytest.mark.parametrize("kind", ["zscl", "lipsum-ft"])
def test_texts_of_another_width_are_refused(kind: str) -> None:
    plugin = KINDS[kind](reference_data=data(torch.randn(3, 5)))
    with pytest.raises(ValueError, match=r"texts has shape \(3, 5\); expected \[M, 8\]"):
        learn(strategy(Still(), plugin), classic(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: LipsumFTPlugin(images="all", reference_data=d), "images='all' is unknown"),  # type: ignore[arg-type]
        (
            lambda d: LipsumFTPlugin(reference_weight=2.0, reference_data=d),
            "reference_weight=2.0 has no effect with images='training'",
        ),
        (lambda d: LipsumFTPlugin(scale=0.0, reference_data=d), "scale=0 must be positive"),
        (lambda d: ZSCLPlugin(temperature=0.0, reference_data=d), "temperature=0 must be"),
        (lambda d: ZSCLPlugin(own_texts=1, reference_data=d), "own_texts=1 must be True or"),  # type: ignore[arg-type]
        (lambda d: SNDPlugin(distance="l1", reference_data=d), "distance='l1' is unknown"),  # type: ignore[arg-type]
        (lambda d: SNDPlugin(-1.0, reference_data=d), "must be finite and not negative"),
        (lambda d: DiVEPlugin(decay=1.0, reference_data=d), "must be below 1"),
    ],
)
def test_bad_options_are_refused(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make(data())
