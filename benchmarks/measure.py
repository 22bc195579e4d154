"""What is measured of a model: accuracy on data sets, and linear probes of its tower."""

from __future__ import annotations

import json
from typing import Any

import torch
from avalanche.models.utils import avalanche_forward
from torch import Tensor, nn
from torch.utils.data import DataLoader

from avalanche_proxyfda.metrics import select_probe
from avalanche_proxyfda.passes import feature_batches
from avalanche_proxyfda.rng import generator, preserved_rng
from benchmarks.config import Config, plain
from benchmarks.streams.build import PanelSet
from benchmarks.streams.concepts import Split

MEASURED: tuple[Split, ...] = ("validation", "test")
Accuracies = dict[str, dict[Split, float]]
_PRETRAINED: dict[str, Accuracies] = {}


def device_of(config: Config) -> torch.device:
    """Where the run takes place.

    Raises:
        ValueError: when torch does not know the device, or it is not there.
    """
    asked = config.where.device
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"where.device={asked!r} cannot be used here: {reason}") from error
    return device


@torch.no_grad()
def accuracy(model: nn.Module, data: Any, config: Config, device: torch.device) -> float:
    """Share of the labels of ``data`` that the model predicts, in eval mode.

    Random streams and modes are left as they were found, and no head grows.
    """
    modes = {name: module.training for name, module in model.named_modules()}
    model.eval()
    loader = DataLoader(
        data.eval(), batch_size=config.train.eval_batch, num_workers=config.train.workers,
        collate_fn=data.collate_fn, generator=generator("accuracy"),
    )  # fmt: skip
    hits = torch.zeros((), dtype=torch.long, device=device)
    with preserved_rng(device):
        for images, labels, *tasks in loader:
            asked = tasks[0].to(device) if tasks else None
            logits = avalanche_forward(model, images.to(device), asked)
            hits += (logits.argmax(dim=1) == labels.to(device)).sum()
    for name, module in model.named_modules():
        module.training = modes[name]
    return int(hits) / len(data)


def probe_panel(
    tower: nn.Module, panel: list[PanelSet], config: Config, device: torch.device
) -> Accuracies:
    """A_LP of each set by split: fitted on train, its penalty chosen on validation."""
    modes = {name: module.training for name, module in tower.named_modules()}
    tower.eval()

    def rows(data: PanelSet, split: Split) -> Tensor:
        batches = feature_batches(
            data.images[split], tower, device, config.train.eval_batch, config.train.workers,
            about=f"features of {data.name}",
        )  # fmt: skip
        return torch.cat([batch.cpu() for batch in batches])

    found: Accuracies = {}
    for data in panel:
        features: dict[Split, Tensor] = {split: rows(data, split) for split in data.images}
        labels = {split: torch.tensor(values) for split, values in data.targets.items()}
        probe = select_probe(
            (features["train"], labels["train"]), (features["validation"], labels["validation"]),
            len(data.classes),
        )  # fmt: skip
        found[data.name] = {s: probe.accuracy(features[s], labels[s]) for s in MEASURED}
    for name, module in tower.named_modules():
        module.training = modes[name]
    return found


def pretrained_panel(
    tower: nn.Module, panel: list[PanelSet], config: Config, device: torch.device
) -> Accuracies:
    """:func:`probe_panel` of the pre-trained tower: once a process, the same for every method."""
    content = plain(config)
    seed = config.seed if config.backbone.weights == "random" else None
    parts = [content[part] for part in ("backbone", "panel", "stream", "where")]
    key = json.dumps([*parts, seed, config.train.eval_batch, config.train.channels_last])
    if key not in _PRETRAINED:
        _PRETRAINED[key] = probe_panel(tower, panel, config, device)
    return _PRETRAINED[key]
