"""Reference texts: the student's text tower encodes them, and the teacher's copy of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from open_clip.model import CLIP
from torch import Tensor, nn

from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.features.source import FeatureSource
from avalanche_proxyfda.models.text_tower import TextTower
from avalanche_proxyfda.plugins.base.beside import Beside
from avalanche_proxyfda.plugins.base.lifecycle import Terms
from avalanche_proxyfda.plugins.base.reference_only import ReferenceOnlyPlugin
from avalanche_proxyfda.teacher import CachedTeacher, FeatureTeacher
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.plugins.toys import Plain, classic, learn, strategy


class TwoTowers(Plain):
    """The toy model beside a text tower of width 8, with a context of six words of ten."""

    def __init__(self, trained: bool = True) -> None:
        super().__init__(dropout=0.0)
        image: Any = {"image_size": 8, "patch_size": 4, "layers": 1, "width": 8, "head_width": 8}
        text: Any = {"context_length": 6, "vocab_size": 10, "width": 8, "heads": 1, "layers": 1}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.text = TextTower(CLIP(8, image, text))
        if not trained:
            self.text.requires_grad_(False)
        self.encodings = 0
        self.text.register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.encodings += 1


class Logits(ReferenceOnlyPlugin):
    """Keeps logits of images and texts; notes the texts' features."""

    reads_texts = True
    also_initial = True

    def __init__(self, weight: float = 1.0, **options: Any) -> None:
        super().__init__(weight, **options)
        self.seen: list[Beside] = []

    def compare_reference(self, student: Tensor, teacher: Tensor, beside: Beside) -> Terms:
        assert beside.student_texts is not None
        assert beside.teacher_texts is not None
        self.seen.append(beside)
        mine, theirs = student @ beside.student_texts.T, teacher @ beside.teacher_texts.T
        return {"logits": (self.weight, (mine - theirs).square().mean())}


def reference(texts: Tensor) -> ReferenceData:
    images = torch.randn(9, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    return ReferenceData(images, texts, batch=8)


TOKENS = torch.tensor([[8, 1, 9], [8, 3, 9], [8, 5, 9]])


def steps(own: Logits, model: nn.Module) -> list[Beside]:
    learn(strategy(model, own), classic(2))
    assert len(own.seen) == 6
    return own.seen


def test_a_trained_text_tower_encodes_each_step_and_its_teachers_once() -> None:
    model, own = TwoTowers(), Logits(reference_data=reference(TOKENS))
    seen = steps(own, model)
    assert model.encodings == 6
    assert seen[0].student_texts is not None
    assert seen[0].student_texts.requires_grad
    assert torch.equal(seen[0].student_texts, seen[0].teacher_texts)  # to the bit
    assert torch.equal(seen[3].student_texts, seen[3].teacher_texts)  # of the second experience
    assert not torch.equal(seen[5].student_texts, seen[5].teacher_texts)
    assert seen[4].teacher_texts is seen[5].teacher_texts
    for beside in seen:
        assert torch.equal(beside.initial_texts, seen[0].teacher_texts)
    assert not torch.equal(seen[3].teacher_texts, seen[0].teacher_texts)


def test_a_frozen_text_tower_encodes_once_an_experience() -> None:
    model, own = TwoTowers(trained=False), Logits(reference_data=reference(TOKENS))
    seen = steps(own, model)
    assert model.encodings == 2
    for beside in seen:
        assert beside.student_texts is not None
        assert not beside.student_texts.requires_grad
        assert torch.equal(beside.student_texts, beside.teacher_texts)


def test_text_features_are_the_same_for_student_and_teacher() -> None:
    features = torch.randn(5, 8)
    seen = steps(Logits(reference_data=reference(features)), Plain())
    for beside in seen:
        assert torch.equal(beside.student_texts, features)
        assert torch.equal(beside.teacher_texts, features)


def test_a_training_with_texts_that_was_broken_off_ends_the_same(tmp_path: Path) -> None:
    def make() -> list[Logits]:
        return [Logits(reference_data=reference(TOKENS))]

    own = make()
    whole = train(build(TwoTowers, *own, BreakOff()), classic(2), tmp_path / "whole", every=None)
    for step in (6, 10):  # between the experiences, and in the second one
        rest = make()
        folder = tmp_path / str(step)
        with pytest.raises(BrokenOffError):
            train(build(TwoTowers, *make(), BreakOff(step)), classic(2), folder, every=2)
        again = train(build(TwoTowers, *rest, BreakOff()), classic(2), folder, every=2)
        assert alike(whole, again), step
        for left, right in zip(own[0].seen[-2:], rest[0].seen[-2:], strict=True):
            assert torch.equal(left.teacher_texts, right.teacher_texts)
            assert torch.equal(left.initial_texts, right.initial_texts)
            assert torch.equal(left.initial, right.initial)


def test_restored_texts_are_on_the_device_of_the_training() -> None:
    """A checkpoint holds tensors on the CPU."""
    own = Logits(reference_data=reference(TOKENS))
    place = SimpleNamespace(plugins=[own], device=torch.device("meta"), model=Plain())
    saved = {"texts": torch.randn(3, 8), "cache": None}
    teacher = CachedTeacher(FeatureTeacher(place.model, [FeatureSource("backbone")]))
    answers = own._answers_of(place, teacher, {}, saved)
    assert answers.texts is not None
    assert answers.texts.device.type == "meta"


@pytest.mark.parametrize(
    ("texts", "model", "message"),
    [
        (torch.zeros(2, 7).long(), TwoTowers, r"7 token ids, and the text tower takes 6"),
        (torch.full((2, 3), 10), TwoTowers, r"from 10 to 10, and .* vocabulary of 10: pass ids"),
        (TOKENS, Plain, "Plain holds no TextTower that encodes them"),
    ],
)
def test_texts_that_the_model_cannot_encode_are_refused(
    texts: Tensor, model: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        steps(Logits(reference_data=reference(texts)), model())


def test_texts_are_needed_by_a_method_that_compares_with_them() -> None:
    with pytest.raises(ValueError, match="Logits compares with texts"):
        Logits(reference_data=ReferenceData(torch.randn(9, 1, 4, 4), batch=8))
