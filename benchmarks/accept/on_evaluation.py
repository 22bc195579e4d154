"""Measurements of features and the methods on weights: the device agrees with the CPU."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from avalanche_proxyfda.features.linear_probe import fit_probe
from avalanche_proxyfda.metrics.drift import linear_cka, mean_l2, neighbor_overlap
from avalanche_proxyfda.metrics.knn import knn_accuracy
from avalanche_proxyfda.models.text_head import text_head
from benchmarks.accept.check import Check, Fault, Setting, relative, within
from benchmarks.accept.toys import finals, strategy_for, stream_for
from benchmarks.experiment.numerics import tf32
from benchmarks.models import tiny_clip


def checks() -> list[Check]:
    """Return the checks of this group."""
    return [
        Check("evaluation: linear probe", _probe),
        Check("evaluation: k-NN and drift", _neighbours),
        Check("evaluation: text head", _text),
        Check("evaluation: LP-FT", lambda setting: _weights("lp-ft", setting)),
        Check("evaluation: WiSE-FT", lambda setting: _weights("wise-ft", setting)),
    ]


def _features(setting: Setting) -> tuple[Tensor, Tensor, Tensor]:
    """Return features before and after, [N, 64], and labels, [N]."""
    count = 240 if setting.quick else 2000
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 10
    centres = torch.randn(10, 64, generator=source)
    before = centres[labels] + torch.randn(count, 64, generator=source)
    return before, before + 0.5 * torch.randn(count, 64, generator=source), labels


def _probe(setting: Setting) -> str:
    before, _, labels = _features(setting)
    half = len(labels) // 2
    accuracies = []
    for device in (torch.device("cpu"), setting.device):
        probe = fit_probe(before[:half].to(device), labels[:half].to(device), 10, 1e-3)
        accuracies.append(probe.accuracy(before[half:].to(device), labels[half:].to(device)))
    gap = abs(accuracies[0] - accuracies[1])
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


def _weights(method: str, setting: Setting) -> str:
    results = []
    for device in (torch.device("cpu"), setting.device):
        strategy = strategy_for(method, "static", device)
        with warnings.catch_warnings(), tf32(False):
            warnings.simplefilter("ignore")
            torch.manual_seed(1)
            for experience in stream_for("static").train_stream:
                strategy.train(experience, eval_streams=[])
        results.append(finals(strategy))
    host, ours = results
    worst = max(relative(ours[name], value) for name, value in host.items() if value.ndim > 1)
    if not worst <= 0.05:  # twelve steps of AdamW amplify the last digits
        raise Fault(f"trained weights are {worst:.2g} from the CPU's, of the largest; at most 0.05")
    return f"trained weights {worst:.1g} from the CPU's"
