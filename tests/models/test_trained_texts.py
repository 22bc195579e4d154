"""Zero-shot heads of a trained text tower, against loops over classes and prompts."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from avalanche_proxyfda.models import (
    TaskHeads,
    TextHead,
    TextHeads,
    TextTower,
    TrainedTextHead,
    TwoTowers,
    text_head,
    trained_text_head,
)
from tests.models.small_texts import NAMES, PROMPTS, small_clip, text_heads, tokenize, two_towers
from tests.reference import trained_texts as reference


def counted(text: TextTower) -> list[int]:
    """Numbers of texts of the tower's forwards from now on."""
    sizes: list[int] = []
    text.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    return sizes


def rows(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("training", [False, True])
def test_logits_are_those_of_the_loops(training: bool) -> None:
    clip = small_clip().double()
    (head,) = text_heads(4, text=TextTower(clip))
    head.train(training)
    expected = reference.logits(clip, head.tokens, rows().double())
    torch.testing.assert_close(head(rows().double()), expected, rtol=1e-6, atol=1e-6)
    assert head(rows().double()).requires_grad is training


def test_gradients_are_those_of_the_loops() -> None:
    clip = small_clip().double()
    (head,) = text_heads(4, text=TextTower(clip))
    labels, images = torch.tensor([0, 3, 1]), rows().double().requires_grad_()
    twin = rows().double().requires_grad_()
    nn.functional.cross_entropy(head(images), labels).backward()
    logits = reference.logits(clip, head.tokens, twin)
    nn.functional.cross_entropy(logits, labels).backward()
    torch.testing.assert_close(images.grad, twin.grad)
    found = dict(head.text.clip.named_parameters())
    for name, parameter in clip.named_parameters():
        if not name.startswith("visual.") and name != "logit_scale":
            torch.testing.assert_close(found[name].grad, parameter.grad)
            assert float(parameter.grad.abs().sum()) > 0, name
    assert found["logit_scale"].grad is None


@pytest.mark.parametrize("classes", [1, 6, 23])
def test_untrained_texts_give_the_bits_of_the_fixed_head(classes: int) -> None:
    clip = small_clip()
    names = [f"{chr(97 + k)}" for k in range(classes)]
    fixed = text_head(clip, tokenize, names, PROMPTS)
    head = trained_text_head(TextTower(clip), tokenize, names, PROMPTS).eval()
    assert torch.equal(head.fixed().weight, fixed.weight)
    assert torch.equal(head(rows()), fixed(rows()))
    assert not list(head.parameters()) and not head.state_dict()


def test_evaluation_encodes_once_for_a_state_of_the_weights() -> None:
    model = two_towers()
    texts, images = counted(model.text), torch.randn(2, 3, 8, 8)
    model.eval()
    before = model(images)
    assert torch.equal(model(images), before) and texts == [12]
    model.train()
    model(images)
    assert texts == [12, 12] and model.head.forwards == 1
    model.eval()
    assert torch.equal(model(images), before) and texts == [12] * 3  # training mode drops the cache
    with torch.no_grad():
        model.text.clip.ln_final.weight.mul_(torch.arange(1.0, 9.0))
    after = model(images)
    assert not torch.allclose(after, before) and len(texts) == 4
    twin = copy.deepcopy(model)
    assert twin.head.text is twin.text is not model.text
    with torch.no_grad():
        twin.text.clip.token_embedding.weight.neg_()
    assert not torch.allclose(twin(images), after) and torch.equal(model(images), after)
    twin.text.clip.ln_final.weight.data = torch.ones(8)  # as a checkpoint replaces a weight
    replaced = twin(images)
    twin.train().eval()
    assert torch.equal(twin(images), replaced)


def test_evaluation_encodes_ten_classes_at_a_time_and_keeps_modes() -> None:
    names = [chr(97 + k) for k in range(23)]
    head = trained_text_head(TextTower(small_clip()), tokenize, names, PROMPTS).eval()
    texts = counted(head.text)
    head.text.train()
    head(rows())
    assert texts == [20, 20, 6] and all(part.training for part in head.text.modules())


def test_mixed_tasks_encode_the_texts_of_their_own_tasks() -> None:
    heads = text_heads(3, 5, 2)
    model = TaskHeads(nn.Flatten(), 8, [3, 5, 2], TextHeads(heads))
    assert model.text is heads[0].text and "text.clip.text_projection" in model.state_dict()
    texts, images = counted(model.text), rows(4).reshape(4, 2, 4)
    mixed = model(images, torch.tensor([0, 1, 1, 0]))
    assert mixed.shape == (4, 5) and texts == [6, 10]  # the third task is not in the batch
    torch.testing.assert_close(mixed[1:3], model(images[1:3], 1))
    torch.testing.assert_close(mixed[::3, :3], model(images[::3], 0))
    assert (mixed[::3, 3:] == -1e4).all()
    assert model.eval()(images, 2).shape == (4, 2)


def test_training_has_prompts_of_its_own() -> None:
    clip = small_clip()
    head = trained_text_head(TextTower(clip), tokenize, NAMES, PROMPTS, ("a {}",))
    single = text_head(clip, tokenize, NAMES, ("a {}",))
    texts = counted(head.text)
    torch.testing.assert_close(head(rows()), single(rows()), rtol=1e-4, atol=1e-4)
    assert texts == [6]
    head.eval()
    assert torch.equal(head(rows()), text_head(clip, tokenize, NAMES, PROMPTS)(rows()))


def test_by_experience_only_its_classes_are_encoded_in_training() -> None:
    text = TextTower(small_clip())
    head = trained_text_head(text, tokenize, NAMES, PROMPTS, by_experience=True)
    whole, texts = head(rows()), counted(text)
    head.adaptation(SimpleNamespace(classes_in_this_experience=[4, 1]))
    logits = head(rows())
    assert texts == [4]
    torch.testing.assert_close(logits[:, [1, 4]], whole[:, [1, 4]])
    assert (logits[:, [0, 2, 3, 5]] == -1e4).all()
    head.eval()
    head.adaptation(SimpleNamespace(classes_in_this_experience=[0]))  # of an evaluation
    torch.testing.assert_close(head(rows()), whole, rtol=1e-5, atol=1e-5)
    assert torch.equal(head.train()(rows()), logits)
    with pytest.raises(ValueError, match="labels from 2 to 6, the head has 6 classes: build the"):
        head.adaptation(SimpleNamespace(classes_in_this_experience=[2, 6]))
    (static,) = text_heads(6, text=text)
    static.adaptation(SimpleNamespace(classes_in_this_experience=[9]))
    torch.testing.assert_close(static(rows()), whole)


def test_training_honours_autocast_and_evaluation_encodes_in_float32() -> None:
    model = two_towers(nn.Flatten())
    images, dtypes = rows().reshape(3, 2, 4), []
    model.text.register_forward_hook(lambda m, i, output: dtypes.append(output.dtype))
    plain = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
        model.eval()
        model(images)
    assert dtypes == [torch.float32, torch.bfloat16, torch.float32]
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), plain, rtol=0.1, atol=0.5)
    logits.float().square().sum().backward()
    assert model.text.clip.text_projection.grad.abs().sum() > 0


def test_bad_input_is_refused() -> None:
    text, ids = TextTower(small_clip()), tokenize(["a", "b"]).reshape(2, 1, 8)
    made: Any = TrainedTextHead
    with pytest.raises(TypeError, match=r"text is a CLIP: pass TextTower\(clip\)"):
        made(small_clip(), ids)
    with pytest.raises(ValueError, match=r"tokens has shape \(2, 8\).*expected token ids \[C, T,"):
        made(text, ids[:, 0])
    with pytest.raises(ValueError, match=r"tokens has shape .* of torch.float32"):
        made(text, ids.float())
    with pytest.raises(ValueError, match="training_tokens has 1 classes, tokens has 2"):
        made(text, ids, ids[:1])
    with pytest.raises(TypeError, match="by_experience=1"):
        made(text, ids, by_experience=1)
    with pytest.raises(ValueError, match=r"the template 'x' must hold \{\} once"):
        trained_text_head(text, tokenize, NAMES, PROMPTS, ["x"])
    with pytest.raises(ValueError, match="must be different names"):
        trained_text_head(text, tokenize, ["a", "a"])
    for others in (text_heads(2), [TextHead(torch.eye(8))]):
        with pytest.raises(ValueError, match="the heads have different text towers"):
            TextHeads([made(text, ids), *others])
    assert TextHeads([]).text is None


def test_a_text_tower_that_has_diverged_is_named() -> None:
    model = two_towers(nn.Flatten()).eval()
    with torch.no_grad():
        model.text.clip.text_projection.fill_(float("nan"))
    with pytest.raises(ValueError, match="a row that is zero, NaN or infinite; check the text"):
        model(rows())
    assert isinstance(model, TwoTowers)


def test_a_compiled_model_encodes_anew_after_each_step() -> None:
    model, twin = two_towers(nn.Flatten()), two_towers(nn.Flatten())
    model.compile(backend="eager")
    images = rows().reshape(3, 2, 4)
    for step in range(2):
        for each in (model, twin):
            each.train()
            each(images).logsumexp(1).sum().backward()
            with torch.no_grad():
                for parameter in each.text.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.01 * parameter.grad
            each.eval()
        assert torch.equal(model(images), twin(images)) and model.head.forwards == step + 1
