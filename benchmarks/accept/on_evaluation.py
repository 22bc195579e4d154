"""Measurements of features and the methods on weights: the device agrees with the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_proxyfda.features.linear_probe import fit_probe
from avalanche_proxyfda.metrics.drift import linear_cka, mean_l2, neighbor_overlap
from avalanche_proxyfda.metrics.knn import knn_accuracy
from avalanche_proxyfda.metrics.panel import Panel, PanelSet
from avalanche_proxyfda.metrics.probe_metric import probe_accuracies
from avalanche_proxyfda.models.text_head import text_head
from benchmarks.accept.check import Check, Fault, Setting, relative, within
from benchmarks.accept.on_training import EPS, learn
from benchmarks.accept.toys import Shapes, distance, strategy_for, stream_for, weights_of
from benchmarks.experiment.numerics import tf32
from benchmarks.models import tiny_clip


def checks() -> list[Check]:
    """Return the checks of this group."""
    return [
        Check("evaluation: linear probe", _probe),
        Check("evaluation: k-NN and drift", _neighbours),
        Check("evaluation: text head", _text),
        Check("evaluation: panel", _panel),
        Check("evaluation: LP-FT", lambda setting: _weights("lp-ft", setting)),
        Check("evaluation: WiSE-FT", lambda setting: _weights("wise-ft", setting)),
    ]


def _features(setting: Setting) -> tuple[Tensor, Tensor, Tensor]:
    """Return features before and after, [N, 64], and labels, [N]; classes overlap."""
    count = 240 if setting.quick else 2000
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 10
    centres = 0.25 * torch.randn(10, 64, generator=source)
    before = centres[labels] + torch.randn(count, 64, generator=source)
    return before, before + 0.5 * torch.randn(count, 64, generator=source), labels


def _probe(setting: Setting) -> str:
    before, _, labels = _features(setting)
    half = len(labels) // 2
    accuracies, weights = [], []
    for device in (torch.device("cpu"), setting.device):
        probe = fit_probe(before[:half].to(device), labels[:half].to(device), 10, 1e-3)
        accuracies.append(probe.accuracy(before[half:].to(device), labels[half:].to(device)))
        weights.append(probe.weight)
    within("weights, from the CPU's:", relative(weights[1], weights[0]), 1e-2)
    gap = abs(accuracies[0] - accuracies[1])
    if not 0.3 < accuracies[0] < 0.95:
        raise Fault(f"an accuracy of {accuracies[0]:.3f} shows no difference")
    return within(f"accuracy {accuracies[1]:.3f}, from the CPU's:", gap, 2 / half)


def _neighbours(setting: Setting) -> str:
    before, after, labels = _features(setting)
    half = len(labels) // 2
    worst = 0.0
    for measure in (mean_l2, linear_cka, neighbor_overlap):
        ours = measure(before.to(setting.device), after.to(setting.device))
        worst = max(worst, abs(ours - measure(before, after)))
    knn = [
        knn_accuracy(
            (before[:half].to(device), labels[:half].to(device)),
            (before[half:].to(device), labels[half:].to(device)),
        )
        for device in (setting.device, torch.device("cpu"))
    ]
    if not 0.3 < knn[1] < 0.95:
        raise Fault(f"a k-NN accuracy of {knn[1]:.3f} shows no difference")
    within("k-NN accuracy, from the CPU's:", abs(knn[0] - knn[1]), 2 / half)
    return within("drift, from the CPU's:", worst, 1e-3)


def _text(setting: Setting) -> str:
    names, templates = ["a red square", "a green circle", "a blue star"], ["{}"]
    heads = [
        text_head(tiny_clip.load().to(device), tiny_clip.tokenize, names, templates)
        for device in (torch.device("cpu"), setting.device)
    ]
    return within(
        "text features, from the CPU's:", relative(heads[1].weight, heads[0].weight), 1e-3
    )


def _panel(setting: Setting) -> str:
    """Measure a panel of one set with one model on both devices."""
    images = [PanelSet("shapes", Shapes(120, seed=3), Shapes(120, seed=4))]
    panel = Panel(images, feature_module="tower", batch_size=32)
    found = []
    for device in (torch.device("cpu"), setting.device):
        model = strategy_for("finetune", "static", device).model
        with tf32(False):
            found.append(panel.of(model, device)["shapes"])
    right, ours = found
    worst = max(relative(ours.splits[name][0], rows[0]) for name, rows in right.splits.items())
    within("features, from the CPU's:", worst, 1e-4)
    accuracies = [probe_accuracies(each)["test"] for each in (right, ours)]
    if not 0.3 < accuracies[0] < 0.99:
        raise Fault(f"an accuracy of {accuracies[0]:.3f} shows no difference")
    gap = abs(accuracies[0] - accuracies[1])
    return within(f"accuracy {accuracies[1]:.3f}, from the CPU's:", gap, 2 / 120)


def _weights(method: str, setting: Setting) -> str:
    results = []
    for device in (torch.device("cpu"), setting.device):
        strategy = strategy_for(method, "static", device, adam=EPS)
        start = weights_of(strategy)
        torch.manual_seed(1)
        with tf32(False):
            learn(strategy, stream_for("static"))
        results.append(weights_of(strategy))
    way = distance(start, results[0])
    if way == 0:
        raise Fault("training moves no weight on the CPU")
    gap = distance(*results) / way
    return within("trained weights, from the CPU's, as a share of the way:", gap, 0.05)
