"""One run: a configuration in, everything that happened out."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from avalanche.evaluation.metrics import accuracy_metrics, forgetting_metrics
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from avalanche_proxyfda import LPFTPlugin
from avalanche_proxyfda.metrics.scalars import SCALARS, avg, last, mean_change, weighted_mean
from avalanche_proxyfda.plugins.base import FeaturePlugin
from benchmarks.config import Config, plain
from benchmarks.finetune import (
    BalancedBatches,
    KeptInEval,
    StepTimer,
    WarmUpCosine,
)
from benchmarks.loggers import open_loggers
from benchmarks.measure import MEASURED, accuracy, measure_panel, pretrained_panel
from benchmarks.prepare import prepare
from benchmarks.provenance import provenance
from benchmarks.streams.build import Stream
from benchmarks.streams.concepts import Split

Row = list[float | None]


def run(
    config: Config, after_step: Callable[[], None] | None = None, folder: Path | None = None
) -> dict[str, Any]:
    """Learn the stream by the method; measure accuracy, forgetting, the panel and cost.

    Figures of the validation split are for choosing settings, those of the test split for
    reporting; both come from the one training.

    Args:
        config: what to run.
        after_step: called after each training step.
        folder: where ``where.loggers`` write.

    Raises:
        FileNotFoundError, ValueError: when data, weights or settings are not what they should be.
    """
    started = time.perf_counter()
    made = prepare(config)
    device, stream, model = made.device, made.stream, made.model
    weights_hash = state_hash(model.tower)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = pretrained_panel(model, made.panel, config, device)
    timer, method = StepTimer(after_step), config.make_plugins()
    shared: list[Any] = [timer]
    if config.train.batches == "balanced":
        size = config.train.classes_per_batch, config.train.samples_per_class
        shared.append(BalancedBatches(model.tower, *size, config.seed))
    if config.train.lr == 0 or config.train.batch_norm == "frozen":
        shared.append(KeptInEval(all_of_it=config.train.lr == 0))
    if config.head.kind == "probe":
        shared.append(LPFTPlugin(l2=config.head.l2, refit=False))
    fixed = config.head.kind == "zero-shot" or not (stream.tasks or stream.grows)
    matrix: list[Row] = [_row(model, stream, 0, fixed, config, device)]
    with open_loggers(config, folder) as loggers:
        strategy = Naive(
            model=model,
            optimizer=made.optimizer,
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=config.train.batch,
            eval_mb_size=config.train.eval_batch,
            device=device,
            plugins=[*shared, *method, WarmUpCosine(config.train.warm_up, config.train.clip)],
            evaluator=EvaluationPlugin(
                accuracy_metrics(experience=True, stream=True),
                forgetting_metrics(stream=True),
                loggers=loggers,
            ),
        )
        loading = {"num_workers": config.train.workers}
        terms, learnt, moments = [], [], []
        for number, experience in enumerate(stream.train):
            strategy.train_epochs = made.epochs[number]
            trained = strategy.train(
                experience, eval_streams=[], reset_optimizer_state=True, **loading
            )
            terms.append({k.split("/")[0]: v for k, v in trained.items() if "_Epoch/" in k})
            found = strategy.eval(stream.test[: number + 1], **loading)  # later heads do not exist
            seen: Row = [
                next(
                    float(v)
                    for k, v in found.items()
                    if k.startswith("Top1_Acc_Exp") and k.endswith(f"Exp{place:03d}")
                )
                for place in range(number + 1)
            ]
            matrix.append(seen + _row(model, stream, number + 1, fixed, config, device))
            learnt.append(_validated(model, stream, number, config, device))
            if config.panel.each_experience:
                after = measure_panel(model, made.panel, config, device)
                moments.append(after.accuracies)
    if not moments:
        after = measure_panel(model, made.panel, config, device)
    kept = [_validated(model, stream, n, config, device) for n in range(len(stream.train))]
    # one experience alone cannot be forgotten, and Avalanche then reports 0
    forgetting = next(v for k, v in found.items() if k.startswith("StreamForgetting"))
    counts = [len(e.dataset) for e in stream.test]
    held = None if stream.validation is None else [len(e.dataset) for e in stream.validation]
    weights = counts if stream.grows else None
    held_weights = held if stream.grows else None

    def panel_part(split: Split) -> dict[str, Any]:
        first, end, *steps = (
            {name: by_split[split] for name, by_split in accuracies.items()}
            for accuracies in (before.accuracies, after.accuracies, *moments)
        )
        change = mean_change(first, end)
        found = {"panel_before": first, "panel_after": end, "delta_lp": change}
        return {**found, "panel_after_each": steps} if moments else found

    parts: dict[Split, dict[str, Any]] = {split: panel_part(split) for split in MEASURED}
    return {
        "run_id": config.identity,
        "config": plain(config),
        "stream": {
            **stream.summary,
            "names": list(stream.names),
            "test_counts": counts,
            "validation_counts": held,
        },
        "panel": {
            data.images.name: {"sha256": data.sha256, "dropped": data.dropped, **data.counts}
            for data in made.panel
        },
        "initial_tower_sha256": weights_hash,
        "feature_source": next((str(p.source) for p in method if hasattr(p, "source")), None),
        "test": {
            "accuracy_matrix": matrix,
            "weighted_by": "image" if stream.grows else "experience",
            "stream_accuracy": last(matrix, weights),
            "average_accuracy": avg(matrix, weights),
            **{name: SCALARS[name](matrix) for name in ("forgetting_best", "forgetting_coda")},
            "forgetting_avalanche": float(forgetting),
            **parts["test"],
        },
        "validation": {
            "learning_accuracy": None if held is None else _weighted(learnt, held_weights),
            "stream_accuracy": None if held is None else _weighted(kept, held_weights),
            **parts["validation"],
        },
        "drift": after.drift_since(before),
        "loss_terms": terms,
        "steps": len(timer.seconds),
        "seconds_per_step": statistics.median(timer.seconds),
        "seconds": time.perf_counter() - started,
        "teacher_forwards": sum(p.teacher_forwards for p in method if isinstance(p, FeaturePlugin)),
        **provenance(device),
    }


def _row(
    model: nn.Module, stream: Stream, first: int, fixed: bool, config: Config, device: torch.device
) -> Row:
    """Test accuracy from experience ``first`` on; None where there is no head yet."""
    return [
        accuracy(model, e.dataset, config, device) if fixed else None for e in stream.test[first:]
    ]


def _validated(
    model: nn.Module, stream: Stream, number: int, config: Config, device: torch.device
) -> float | None:
    if stream.validation is None:
        return None
    return accuracy(model, stream.validation[number].dataset, config, device)


def _weighted(values: Row, weights: list[int] | None) -> float:
    """Mean of a row that is whole."""
    return weighted_mean([float(v or 0.0) for v in values], weights)


def state_hash(module: nn.Module) -> str:
    """SHA-256 of a module's weights and buffers, names and all."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".tmp")
    with staged.open("w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(staged, path)
