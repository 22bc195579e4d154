"""What is measured of a model: accuracy on data sets; of its tower, what a panel shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.models.utils import avalanche_forward
from torch import Tensor, nn
from torch.utils.data import DataLoader

from avalanche_proxyfda.metrics import (
    Panel,
    linear_cka,
    mean_l2,
    neighbor_overlap,
    otdd,
    select_probe,
)
from avalanche_proxyfda.models import Backbone, TextHead, text_head
from avalanche_proxyfda.rng import generator, preserved_rng
from avalanche_proxyfda.strategies.precision import autocast
from benchmarks.config import Config, plain
from benchmarks.streams.build import PanelData, words_of
from benchmarks.streams.concepts import Split

MEASURED: tuple[Split, ...] = ("validation", "test")
Accuracies = dict[Split, dict[str, float]]
_PRETRAINED: dict[str, PanelMoment] = {}


def device_of(config: Config, touch: bool = True) -> torch.device:
    """Where the run takes place.

    Args:
        config: says where.
        touch: try it, which on an accelerator takes memory.

    Raises:
        ValueError: when torch does not know the device, or it is not there.
    """
    asked = config.where.device
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
        if touch or device.type != "cuda":
            torch.empty(1, device=device)
        elif (device.index or 0) >= torch.cuda.device_count():
            raise RuntimeError(f"there are {torch.cuda.device_count()} CUDA devices")
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"where.device={asked!r} cannot be used here: {reason}") from error
    return device


@torch.no_grad()
def accuracy(model: nn.Module, data: Any, config: Config, device: torch.device) -> float:
    """Share of the labels of ``data`` that the model predicts, in eval mode, as it is trained.

    Random streams and modes are left as they were found, and no head grows.
    """
    modes = {name: module.training for name, module in model.named_modules()}
    model.eval()
    loader = DataLoader(
        data.eval(), batch_size=config.train.eval_batch, num_workers=config.train.workers,
        collate_fn=data.collate_fn, generator=generator("accuracy"),
    )  # fmt: skip
    hits = torch.zeros((), dtype=torch.long, device=device)
    with preserved_rng(device), autocast(config.train.precision, device):
        for images, labels, *tasks in loader:
            asked = tasks[0].to(device) if tasks else None
            logits = avalanche_forward(model, images.to(device), asked)
            hits += (logits.argmax(dim=1) == labels.to(device)).sum()
    for name, module in model.named_modules():
        module.training = modes[name]
    return int(hits) / len(data)


_DRIFT = {"l2": mean_l2, "cka": linear_cka, "neighbors": neighbor_overlap}


@dataclass(frozen=True, eq=False)
class PanelMoment:
    """What a panel shows of a tower at one moment.

    Attributes:
        linear_probe: A_LP by split and set: fitted on train, the penalty chosen on validation.
        zero_shot: by split and set, of the sets whose classes have words; None without texts.
        features: of each set's test images, [N, D], and their labels [N].
    """

    linear_probe: Accuracies
    zero_shot: Accuracies | None
    features: dict[str, tuple[Tensor, Tensor]]

    def drift_since(
        self, first: PanelMoment, transport: bool = False
    ) -> dict[str, dict[str, float | None]]:
        """How far each set's test features have moved; None where a measure has no meaning.

        Args:
            first: the moment to compare with.
            transport: measure OTDD too, which is the slowest.
        """
        found: dict[str, dict[str, float | None]] = {}
        for name, (rows, labels) in self.features.items():
            before = first.features[name][0]
            values = {m: _defined(f, before, rows) for m, f in _DRIFT.items()}
            if transport:
                values["otdd"] = _defined(otdd, before, labels, rows, labels)
            found[name] = values
        return found


def _defined(function: Callable[..., float], *rows: Tensor) -> float | None:
    """A value; None for too few images, or features that are all the same or not finite."""
    try:
        return function(*rows)
    except ValueError:
        return None


def panel_heads(
    config: Config, backbone: Backbone, panel: list[PanelData]
) -> tuple[dict[str, TextHead] | None, dict[str, str]]:
    """Zero-shot heads of the panel's sets, and why a set has none; None without a text tower."""
    if backbone.clip is None or backbone.tokenizer is None:
        return None, {}
    heads, without = {}, {}
    for data in panel:
        try:
            words = words_of(data.classes)
        except ValueError as error:
            without[data.images.name] = str(error)
            continue
        made = text_head(backbone.clip, backbone.tokenizer, words, config.head.templates)
        heads[data.images.name] = made.cpu()
    return heads, without


def measure_panel(
    model: nn.Module,
    panel: list[PanelData],
    heads: dict[str, TextHead] | None,
    config: Config,
    device: torch.device,
) -> PanelMoment:
    """Measure the model's ``tower``; its modes, and random streams, stay as they are."""
    probed: Accuracies = {split: {} for split in MEASURED}
    worded: Accuracies = {split: {} for split in MEASURED}
    features: dict[str, tuple[Tensor, Tensor]] = {}
    if panel:
        sets, train = [data.images for data in panel], config.train
        shown = Panel(sets, "tower", batch_size=train.eval_batch, num_workers=train.workers)
        for name, found in shown.of(model, device).items():
            probe = select_probe(*found.choosing(), found.classes)
            head = (heads or {}).get(name)
            for split in MEASURED:
                rows, labels = found.splits[split]
                probed[split][name] = probe.accuracy(rows, labels)
                if head is not None:
                    right = head(rows).argmax(dim=1) == labels
                    worded[split][name] = float(right.double().mean())
            features[name] = found.splits["test"]
    return PanelMoment(probed, worded if heads else None, features)


def pretrained_panel(
    model: nn.Module,
    panel: list[PanelData],
    heads: dict[str, TextHead] | None,
    config: Config,
    device: torch.device,
) -> PanelMoment:
    """:func:`measure_panel` before training: once a process, the same for every method."""
    content = plain(config)
    seed = config.seed if config.backbone.weights == "random" else None
    parts = [content[part] for part in ("backbone", "head", "panel", "stream", "where")]
    key = json.dumps([*parts, seed, config.train.eval_batch, config.train.channels_last])
    if key not in _PRETRAINED:
        _PRETRAINED[key] = measure_panel(model, panel, heads, config, device)
    return _PRETRAINED[key]
