"""Methods on a model with a trained text tower: which weights they cover, and what they keep."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda import (
    DiGraPPlugin,
    EfficientNaive,
    FDAPlugin,
    L2SPPlugin,
    LDIFSPlugin,
    LwFPlugin,
    WiSEFTPlugin,
    find_feature_source,
)
from avalanche_proxyfda.models import (
    TaskHeads,
    TextHeads,
    TextTower,
    TwoTowers,
    find_text_tower,
    text_head,
    trained_text_head,
)
from avalanche_proxyfda.plugins.base.embedding import EmbeddingPlugin
from avalanche_proxyfda.plugins.base.lifecycle import Terms
from avalanche_proxyfda.weights import encoder_names
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.models.small_texts import NAMES, PROMPTS, by_task, small_clip, tokenize, two_towers
from tests.plugins.toys import backbone, classic, learn, strategy, tasks


def trained_text() -> nn.Module:
    return two_towers(backbone())


def frozen_text() -> nn.Module:
    """The same model with the fixed head, as it is without a trained text tower."""
    head = text_head(small_clip(), tokenize, NAMES, PROMPTS)
    return nn.Sequential(OrderedDict(tower=backbone(), head=head))


def started(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize("make", [trained_text, frozen_text])
@pytest.mark.parametrize("kind", [L2SPPlugin, DiGraPPlugin])
def test_anchors_cover_the_towers_that_are_trained(make: Any, kind: Any) -> None:
    covered: list[set[str]] = []

    class Look(SupervisedPlugin[Any]):
        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            covered.append(set(own.names))

    model, own = make(), kind(0.1)
    learn(strategy(model, own, Look()), classic(1))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert covered[0] == trained
    assert {name.partition(".")[0] for name in trained} == (
        {"text", "tower"} if make is trained_text else {"tower"}
    )


@pytest.mark.parametrize("make", [trained_text, frozen_text])
def test_wise_ft_interpolates_the_towers_that_are_trained(make: Any) -> None:
    plain, mixed = make(), make()
    before = started(plain)
    for model, plugins in ((plain, []), (mixed, [WiSEFTPlugin(0.25)])):
        torch.manual_seed(0)
        learn(strategy(model, *plugins), classic(1))
    after, found = started(plain), started(mixed)
    assert before.keys() == after.keys()
    for name, start in before.items():
        expected = 0.75 * start + 0.25 * after[name]
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6)
    moved = {name.partition(".")[0] for name in before if not after[name].equal(before[name])}
    assert moved == ({"text", "tower"} if make is trained_text else {"tower"})


def test_the_encoder_of_an_open_clip_tower_has_the_trained_text_tower_too() -> None:
    model = two_towers()
    source = find_feature_source(model)
    names = encoder_names(model, source)
    assert str(source) == "tower"
    assert set(names) == {name for name, _ in model.named_parameters()}
    clip = small_clip()
    alone = encoder_names(clip, find_feature_source(clip))  # its text side is not trained
    assert all(name.startswith("visual.") for name in alone)


class TextWatcher(EmbeddingPlugin):
    """Compares the teacher's text embeddings with the student's."""

    tokens = tokenize(["a", "bc"])
    seen: Sequence[float] = ()

    def needs_text(self) -> bool:
        return True

    def compare(self, student: Tensor, teacher: Tensor) -> Terms:
        assert self.teacher is not None
        then = self.teacher.text_embeddings(self.tokens)
        assert not then.requires_grad
        gap = (self.text(self.tokens) - then).square().sum()
        self.seen = [*self.seen, gap.item()]
        return {"gap": (self.weight, gap)}

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.text: Any = find_text_tower(strategy.model)
        super().before_training_exp(strategy, **kwargs)


@pytest.mark.parametrize("open_clip", [False, True])
def test_a_plugin_gets_the_text_tower_of_the_teacher(open_clip: bool) -> None:
    model = two_towers() if open_clip else trained_text()
    own, beside = TextWatcher(0.1), LDIFSPlugin(1.0, taps=["tower"])
    made = strategy(model, beside, own)
    held: list[Any] = []

    class Look(SupervisedPlugin[Any]):
        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            assert beside.teacher is own.teacher
            held.append((own.teacher.root, own.teacher.text, copy.deepcopy(own.state_dict())))

    made.plugins.append(Look())
    if open_clip:
        made.plugins.insert(0, Coloured())
    learn(made, classic(2))
    steps = len(own.seen) // 2
    assert own.seen[0] == own.seen[steps] == 0  # the bits of the student when an experience begins
    assert min(own.seen[1:steps]) > 0 and min(own.seen[steps + 1 :]) > 0
    root, text, state = held[-1]
    assert root == ("tower" if open_clip else "") and ("text" in state["reference"]) == open_clip
    assert text is not find_text_tower(model)
    assert not any(p.requires_grad for p in text.parameters())


class Coloured(SupervisedPlugin[Any]):
    """Makes images of 3 x 8 x 8 of the toys' 1 x 4 x 4."""

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        images = strategy.mbatch[0]
        strategy.mbatch[0] = images.repeat(1, 3, 2, 2)

    before_eval_forward = before_forward


def test_a_teacher_without_need_keeps_no_text_tower() -> None:
    own = FDAPlugin(num_neighbors=3, hard_class_batches=False, feature_module="tower")
    model, held = trained_text(), []

    class Look(SupervisedPlugin[Any]):
        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            assert own.teacher is not None
            held.append((own.teacher.text, find_text_tower(own.teacher.module)))
            with pytest.raises(ValueError, match=r"keeps no text tower: return True in .*needs_te"):
                own.teacher.text_embeddings(TextWatcher.tokens)

    learn(strategy(model, own, Look()), classic(1))
    assert held[-1] == (None, None)


@pytest.mark.parametrize("stream", ["one head", "tasks"])
def test_a_step_runs_each_tower_once(stream: str) -> None:
    many = stream == "tasks"
    model = by_task(backbone(), 3, 5) if many else trained_text()
    calls: dict[str, list[int]] = {"tower": [], "text": []}
    text: Any = find_text_tower(model)
    for name, part in (("tower", model.tower), ("text", text)):

        def count(module: Any, inputs: Any, output: Tensor, name: str = name) -> None:
            if module.training:
                calls[name].append(len(inputs[0]))

        part.register_forward_hook(count)
    made = strategy(model, LDIFSPlugin(1.0, taps=["head:input"]))
    before = started(model)
    learn(made, tasks() if many else classic(1))
    assert len(calls["tower"]) == len(calls["text"]) == made.clock.train_iterations
    assert set(calls["text"]) == ({6, 10} if many else {12})  # classes of the task, two prompts
    after = started(model)
    frozen = {name for name in before if after[name].equal(before[name])}
    assert frozen == {"text.clip.logit_scale"}


def test_lwf_keeps_old_tasks_through_the_text_tower() -> None:
    own, model = LwFPlugin(1.0), by_task(backbone(), 3, 5)
    terms: list[float] = []

    class Look(SupervisedPlugin[Any]):
        def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
            terms.append(own.means().get("distillation", 0.0))

    made = strategy(model, own)
    made.plugins.insert(0, Look())
    learn(made, tasks())
    assert terms[0] == 0 and terms[1] > 0 and own.teacher_forwards > 0


def test_lwf_compares_the_texts_of_training_in_both_models() -> None:
    """With a student that does not move, the distillation stays zero."""
    text = TextTower(small_clip())
    heads = [trained_text_head(text, tokenize, NAMES[:c], PROMPTS, ("a {}",)) for c in (3, 5)]
    tower = nn.Sequential(nn.Flatten(), nn.Linear(16, 8))
    own = LwFPlugin(teacher_cache="off")
    made = strategy(TaskHeads(tower, 8, [3, 5], TextHeads(heads)), own)
    made.optimizer.param_groups[0]["lr"] = 0.0
    learn(made, tasks())
    values = made.evaluator.get_all_metrics()
    (means,) = (rows for name, (_, rows) in values.items() if "LwF_distillation" in name)
    assert own.teacher_forwards > 0 and max(means) < 1e-6


def test_lwf_refuses_a_head_without_logits_of_old_classes() -> None:
    text = TextTower(small_clip())
    head = trained_text_head(text, tokenize, NAMES, PROMPTS, by_experience=True)
    with pytest.raises(ValueError, match=r"LwF keeps the logits of old .*by_experience=False"):
        learn(strategy(TwoTowers(backbone(), head), LwFPlugin()), classic(2))


CASES: dict[str, Any] = {
    "one head": (
        trained_text,
        lambda: [TextWatcher(0.1), L2SPPlugin(0.1), WiSEFTPlugin(0.5)],
        partial(classic, 2, count=60),
    ),
    "tasks": (lambda: by_task(backbone(), 3, 5), lambda: [LwFPlugin(1.0)], tasks),
}


@pytest.mark.parametrize("case", CASES)
def test_a_training_that_was_broken_off_ends_the_same(tmp_path: Path, case: str) -> None:
    model, plugins, benchmark = CASES[case]
    stream = benchmark()
    short = partial(build, train_epochs=1)
    whole = train(short(model, *plugins(), BreakOff()), stream, tmp_path / "a", every=None)
    step = whole.clock.train_iterations // 2 + 1  # in the second experience
    with pytest.raises(BrokenOffError):
        train(short(model, *plugins(), BreakOff(step)), stream, tmp_path / "b", every=2)
    again = train(short(model, *plugins(), BreakOff()), stream, tmp_path / "b", every=2)
    assert alike(whole, again)


def test_bf16_trains_both_towers() -> None:
    model = by_task(backbone(), 3, 5)
    before = started(model)
    learn(strategy(model, kind=EfficientNaive, precision="bf16", accumulate=2), tasks())
    after = started(model)
    assert {name for name in before if after[name].equal(before[name])} == {"text.clip.logit_scale"}


def test_a_teacher_with_other_prompts_in_training_keeps_its_cache() -> None:
    """The teacher's copy of the head is in training mode, and writes none of its tensors."""
    clip = small_clip()
    head = trained_text_head(TextTower(clip), tokenize, NAMES, PROMPTS, ("b {}",))
    assert head.trains_on_other_texts
    own = LwFPlugin(1.0, known_classes=[0, 1], teacher_cache="exact")
    trained = strategy(TwoTowers(backbone(dropout=0.0), head), own, train_epochs=3)
    trained.train(classic(2).train_stream[0], eval_streams=[])
    assert own.cache_lookups == 3 * 60
    assert own.cache_hits == 2 * 60
