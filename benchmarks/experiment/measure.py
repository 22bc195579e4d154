"""Measurements of a model: accuracy on data sets, and its tower's features on a panel."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from avalanche.models.utils import avalanche_forward
from torch import Tensor, nn

from avalanche_proxyfda._accelerator import best_device, device_count, module_of
from avalanche_proxyfda._float64 import CPU, float64_device
from avalanche_proxyfda._random import preserved_rng
from avalanche_proxyfda.features.passes import BatchesInTurn, sent
from avalanche_proxyfda.metrics import (
    Panel,
    defined_drift,
    measure_names,
    probe_accuracies,
    zero_shot_accuracies,
)
from avalanche_proxyfda.models import (
    Backbone,
    TextHead,
    TextTower,
    TrainedTextHead,
    text_head,
    trained_text_head,
)
from avalanche_proxyfda.strategies.precision import autocast
from benchmarks.config import Config, plain, precision_of
from benchmarks.experiment.data import MOST_KEPT
from benchmarks.streams.panel import PanelData
from benchmarks.streams.texts.lookup import panel_texts

Measured = Literal["validation", "test"]
MEASURED: tuple[Measured, ...] = ("validation", "test")
Accuracies = dict[Measured, dict[str, float]]
Heads = Mapping[str, TextHead | TrainedTextHead]
"""Zero-shot heads by set."""
_PRETRAINED: OrderedDict[str, PanelMoment] = OrderedDict()


def device_of(config: Config, touch: bool = True) -> torch.device:
    """The device of the run.

    Args:
        config: names the device in ``where.device``.
        touch: allocates a tensor on the device, which takes memory on an accelerator.

    Raises:
        ValueError: when torch does not know the device, or the machine does not have it.
    """
    asked = config.where.device
    if asked == "auto":
        return best_device()
    try:
        device = torch.device(asked)
        if touch or module_of(device) is None:
            torch.empty(1, device=device)
        elif (device.index or 0) >= device_count(device):
            raise RuntimeError(f"there are {device_count(device)} {device.type.upper()} devices")
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"where.device={asked!r} cannot be used here: {reason}") from error
    return device


@torch.no_grad()
def accuracies(
    model: nn.Module, sets: Sequence[Any], config: Config, device: torch.device
) -> tuple[float, ...]:
    """Share of the labels of each of ``sets`` that the model predicts, in eval mode.

    One loader reads all sets, so its workers start once. The forward passes have the precision of
    training. Random streams and modes stay as they are, and no head grows.
    """
    if not sets:
        return ()
    modes = {name: module.training for name, module in model.named_modules()}
    model.eval()
    with_collate = [(data.eval(), data.collate_fn) for data in sets]
    batches = BatchesInTurn(with_collate, config.train.eval_batch)
    loader = batches.loader(device, "accuracy", config.train.workers)
    hits = torch.zeros(len(sets), dtype=torch.long, device=device)
    with preserved_rng(device), autocast(precision_of(config.train), device, model):
        for (images, labels, *tasks), (number, _) in zip(loader, batches.places, strict=True):
            task_labels = sent(tasks[0], device) if tasks else None
            logits = avalanche_forward(model, sent(images, device), task_labels)
            hits[number] += (logits.argmax(dim=1) == sent(labels, device)).sum()
    for name, module in model.named_modules():
        module.training = modes[name]
    return tuple(right / len(data) for right, data in zip(hits.tolist(), sets, strict=True))


@dataclass(frozen=True, eq=False)
class PanelMoment:
    """Measurements of a tower on the panel at one moment.

    Attributes:
        linear_probe: accuracy of the linear probe (A_LP) by split and set.
        zero_shot: accuracy of the text head by split and set, for sets whose classes have
            words; None without heads.
        features: test features [N, D] and labels [N] by set; empty once they are compared.
        drift: result of :meth:`drift_since` for the first moment; empty at the first moment.
    """

    linear_probe: Accuracies
    zero_shot: Accuracies | None
    features: dict[str, tuple[Tensor, Tensor]]
    drift: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def compared(
        self, first: PanelMoment, optional: bool = False, device: torch.device = CPU
    ) -> PanelMoment:
        """Return this moment with its drift in place of its features, see :meth:`drift_since`.

        A run keeps the features of its first moment alone, however many moments it has.
        """
        return replace(self, features={}, drift=self.drift_since(first, optional, device))

    def drift_since(
        self,
        first: PanelMoment,
        optional: bool = False,
        device: torch.device = CPU,
    ) -> dict[str, dict[str, float | None]]:
        """Drift of the test features by set and measure; None where a measure has no meaning.

        Args:
            first: the moment to compare with.
            optional: adds the optional measures, such as OTDD.
            device: computes the drift, if it computes in float64; otherwise the CPU does.
        """
        measures, place = measure_names(optional), float64_device(device)
        return {
            name: defined_drift(first.features[name][0].to(place), rows.to(place), labels, measures)
            for name, (rows, labels) in self.features.items()
        }


def panel_heads(
    config: Config,
    backbone: Backbone,
    panel: list[PanelData],
    device: torch.device = CPU,
    text: TextTower | None = None,
) -> tuple[Heads | None, dict[str, str]]:
    """Zero-shot heads by set, and the reason by set without a head; no heads without a text tower.

    Args:
        config: names the prompts and class names of the sets.
        backbone: has the text tower and its tokenizer, or None for either.
        panel: data sets and their class names.
        device: computes the features of the texts, and holds the heads.
        text: trained text tower of the model, which encodes the texts at each measurement; None
            computes the features once, with the backbone's.

    Raises:
        ImportError, ValueError: see :func:`benchmarks.streams.texts.lookup.panel_texts`.
    """
    if backbone.clip is None or backbone.tokenizer is None:
        return None, {}
    texts, without = panel_texts(config, panel)
    heads: dict[str, TextHead | TrainedTextHead] = {}
    tokenizer, cache = backbone.tokenizer, config.where.cache_dir
    for name, of_set in texts.items():
        words, templates = of_set.words, of_set.templates
        if text is not None:
            heads[name] = trained_text_head(text, tokenizer, words, templates)
        else:
            heads[name] = text_head(backbone.clip, tokenizer, words, templates, device, cache)
    return heads, without


def measure_panel(
    model: nn.Module,
    panel: list[PanelData],
    heads: Heads | None,
    config: Config,
    device: torch.device,
) -> PanelMoment:
    """Measure the model's ``tower``; its modes and random streams stay as they are.

    Args:
        model: has the tower as its submodule ``tower``.
        panel: data sets with all three splits; may be empty.
        heads: zero-shot heads by set; a set may have none.
        config: has the batch size and the number of workers.
        device: computes the features.
    """
    linear_probe: Accuracies = {split: {} for split in MEASURED}
    zero_shot: Accuracies = {split: {} for split in MEASURED}
    test_features: dict[str, tuple[Tensor, Tensor]] = {}
    if panel:
        sets, train = [data.images for data in panel], config.train
        shared = Panel(sets, "tower", batch_size=train.eval_batch, num_workers=train.workers)
        for name, features in shared.of(model, device, precision_of(train)).items():
            probed = probe_accuracies(features)
            for split in MEASURED:
                linear_probe[split][name] = probed[split]
            if heads and name in heads:
                head = heads[name]
                now = head.fixed() if isinstance(head, TrainedTextHead) else head
                from_text = zero_shot_accuracies(features, now)
                for split in MEASURED:
                    zero_shot[split][name] = from_text[split]
            test_features[name] = features.splits["test"]
    return PanelMoment(linear_probe, zero_shot if heads else None, test_features)


def pretrained_panel(
    model: nn.Module,
    panel: list[PanelData],
    heads: Heads | None,
    config: Config,
    device: torch.device,
) -> PanelMoment:
    """:func:`measure_panel` before training, which no method changes.

    The process keeps the moments of the last :data:`MOST_KEPT` configurations, as it keeps data.
    """
    content = plain(config)
    seed = config.seed if config.backbone.weights == "random" else None
    parts = [content[part] for part in ("backbone", "head", "panel", "stream", "where")]
    train = config.train
    kernels = [
        train.channels_last,
        train.compile,
        train.precision,
        train.tf32,
        train.deterministic,
        train.pipeline,
    ]
    key = json.dumps([*parts, seed, train.eval_batch, *kernels])
    if key not in _PRETRAINED:
        _PRETRAINED[key] = measure_panel(model, panel, heads, config, device)
        if len(_PRETRAINED) > MOST_KEPT:
            _PRETRAINED.popitem(last=False)
    _PRETRAINED.move_to_end(key)
    return _PRETRAINED[key]


def forget_pretrained() -> None:
    """Forget the moments that :func:`pretrained_panel` keeps; the next call measures anew."""
    _PRETRAINED.clear()
