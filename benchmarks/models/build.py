"""The model of a run: the pre-trained tower with a head for the stream."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
from avalanche.models import IncrementalClassifier
from torch import nn

from avalanche_proxyfda._float64 import CPU
from avalanche_proxyfda.models import (
    Backbone,
    GrowingTextHead,
    SeenTextHead,
    TaskHeads,
    TextHead,
    TextHeads,
    TextTower,
    TwoTowers,
    UnitHeads,
    UnitLinear,
    start_from_texts,
    text_head,
    trained_text_head,
)
from benchmarks.config import FIRST, Config, Train
from benchmarks.models.rates import layered_groups
from benchmarks.streams.stream import Stream
from benchmarks.streams.texts.known import SetTexts
from benchmarks.streams.texts.lookup import stream_texts


def build_model(
    config: Config, backbone: Backbone, stream: Stream, device: torch.device = CPU
) -> nn.Module:
    """Build a model with the parts ``tower`` and ``head``.

    There is one head a task if tasks have labels of their own. There is a growing head if
    experiences add classes. Otherwise there is one head of fixed size. A zero-shot head has
    all classes from the start. The model is on the CPU, except for heads of texts.

    A model whose text tower is trained has the part ``text`` too. Its zero-shot heads encode the
    class texts anew in each step; if experiences add classes, those of the experience alone.

    Args:
        config: names the head.
        backbone: has the tower, and for heads of texts the text tower.
        stream: has the classes.
        device: computes the features of texts.

    Raises:
        ImportError, ValueError: if ``head.kind`` needs texts and the backbone has no text tower,
            or the classes have no words or prompts.
    """
    if config.trains_text:
        return _two_towers(config, backbone, stream)
    tower, dim = backbone.tower, backbone.dim
    sizes = [len(names) for names in stream.classes]
    if config.head.kind in ("zero-shot", "text-start"):
        _check_text_tower(config, backbone)
        if stream.added:
            return _with_union(tower, _by_experience(config, backbone, stream, device))
        texts = [_text_head(config, backbone, t, device) for t in stream_texts(config, stream)]
        build = _with_texts if config.head.kind == "zero-shot" else _from_texts
        return build(tower, dim, texts, stream)
    if stream.tasks:
        return TaskHeads(tower, dim, sizes)
    if stream.grows:
        return _joined(tower, IncrementalClassifier(dim))
    return _joined(tower, nn.Linear(dim, sizes[0]))


def _two_towers(config: Config, backbone: Backbone, stream: Stream) -> nn.Module:
    """Build a model with a trained text tower and its zero-shot heads."""
    if backbone.clip is None or backbone.tokenizer is None:
        raise ValueError(
            f"backbone.train.text=full: {backbone.name} has no text tower; set backbone.name to an "
            "open_clip backbone, or backbone.train.text=frozen"
        )
    text = TextTower(backbone.clip)
    heads = [
        trained_text_head(
            text,
            backbone.tokenizer,
            texts.words,
            texts.templates,
            _train_templates(config, texts),
            by_experience=stream.grows or bool(stream.added),
        )
        for texts in stream_texts(config, stream)
    ]
    if stream.tasks:
        sizes = [head.classes for head in heads]
        return TaskHeads(backbone.tower, backbone.dim, sizes, TextHeads(heads))
    return TwoTowers(backbone.tower, heads[0])


def _with_texts(tower: nn.Module, dim: int, texts: list[TextHead], stream: Stream) -> nn.Module:
    """Build a model with zero-shot heads, which are not trained."""
    if stream.tasks:
        return TaskHeads(tower, dim, _sizes(texts), TextHeads(texts))
    return _joined(tower, texts[0])


def _by_experience(
    config: Config, backbone: Backbone, stream: Stream, device: torch.device
) -> list[TextHead]:
    """Heads of the classes that each experience adds.

    The last bits of a text's embedding depend on the texts beside it, so those of an experience
    are encoded without those of others.
    """
    (texts,), ends = stream_texts(config, stream), list(accumulate(stream.added))
    parts = [texts.words[end - count : end] for end, count in zip(ends, stream.added, strict=True)]
    return [
        _text_head(config, backbone, replace(texts, words=part), device) for part in parts if part
    ]


def _with_union(tower: nn.Module, texts: list[TextHead]) -> nn.Module:
    """Build a model with one zero-shot head over the classes of all experiences."""
    weight = torch.cat([text.weight for text in texts])
    others = [text.train_weight for text in texts if text.train_weight is not None]
    joint = TextHead(weight, float(texts[0].scale), torch.cat(others) if others else None)
    return _joined(tower, SeenTextHead(joint))


def _from_texts(tower: nn.Module, dim: int, texts: list[TextHead], stream: Stream) -> nn.Module:
    """Build a model with linear heads that start as zero-shot heads and are trained."""
    if stream.grows:
        return _joined(tower, GrowingTextHead(texts[0]))
    if stream.tasks:
        heads = UnitHeads(dim, _sizes(texts))
        for layer, text in zip(heads.heads, texts, strict=True):
            start_from_texts(layer, text)
        return TaskHeads(tower, dim, _sizes(texts), heads)
    head = UnitLinear(dim, len(texts[0].weight))
    start_from_texts(head, texts[0])
    return _joined(tower, head)


def _sizes(texts: list[TextHead]) -> list[int]:
    return [len(text.weight) for text in texts]


def _joined(tower: nn.Module, head: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(tower=tower, head=head))


def _check_text_tower(config: Config, backbone: Backbone) -> None:
    if backbone.clip is None or backbone.tokenizer is None:
        raise ValueError(
            f"head.kind={config.head.kind!r}: {backbone.name} has no text tower; set "
            "backbone.name to an open_clip backbone, or head.kind=probe or random"
        )


def _text_head(
    config: Config, backbone: Backbone, texts: SetTexts, device: torch.device
) -> TextHead:
    assert backbone.clip is not None
    assert backbone.tokenizer is not None
    return text_head(
        backbone.clip,
        backbone.tokenizer,
        texts.words,
        texts.templates,
        device,
        config.where.cache_dir,
        _train_templates(config, texts),
    )


def _train_templates(config: Config, texts: SetTexts) -> tuple[str, ...] | None:
    """Return the prompts of a data set in training; None for those of evaluation."""
    template = config.head.train_template
    if template is None:
        return None
    return texts.templates[:1] if template == FIRST else (template,)


def build_optimizer(config: Config, model: Any) -> torch.optim.Optimizer:
    """Build ``train.optimizer`` with one parameter group, or with two if the head has a rate.

    A rate of 0, or a method that does not train the tower, freezes the image tower. With a trained
    text tower or ``train.layer_decay``, the groups are those of
    :func:`~benchmarks.models.rates.layered_groups`. Each group has the
    parameters of whole modules, so Avalanche can update the groups when heads grow.

    Raises:
        ValueError: if no parameter is left to train, or the rate of the head or the text
            tower is missing, or ``train.layer_decay`` meets a tower whose blocks are unknown.
    """
    train, rate = config.train, config.train.head_lr
    if not config.trains_tower:
        model.tower.requires_grad_(False)
    head = [p for p in model.head.parameters() if p.requires_grad]
    tower = [p for p in model.tower.parameters() if p.requires_grad]
    text = [p for p in model.text.parameters() if p.requires_grad] if config.trains_text else []
    if not head and not tower and not text:
        raise ValueError(
            "a frozen tower and a zero-shot head: nothing is left to be trained; "
            "set head.kind=probe, or train a tower"
        )
    if head and rate is None and train.lr == 0:
        raise ValueError("train.lr=0 freezes the tower: say the head's rate, train.head_lr=…")
    if text or train.layer_decay is not None:
        return _optimizer(train, layered_groups(config, model))
    if rate is None and config.trains_tower:
        return _optimizer(train, [{"params": list(model.parameters()), "lr": train.lr}])
    rates = ((tower, train.lr), (head, train.lr if rate is None else rate))
    groups = [{"params": part, "lr": lr} for part, lr in rates if part]
    return _optimizer(train, groups)


def _optimizer(train: Train, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Build the optimizer; the weight decay of Adam and SGD is an L2 term of the gradient."""
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=train.momentum, weight_decay=train.weight_decay)
    kind = torch.optim.Adam if train.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, betas=train.betas, weight_decay=train.weight_decay)
