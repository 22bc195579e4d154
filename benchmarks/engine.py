"""One run: a configuration in, everything that happened out."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from avalanche.evaluation.metrics import accuracy_metrics, forgetting_metrics
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from avalanche_proxyfda import LPFTPlugin, __version__
from avalanche_proxyfda.plugins.base import FeaturePlugin
from benchmarks.backbones import build_backbone, build_views
from benchmarks.config import Config, plain
from benchmarks.finetune import (
    BalancedBatches,
    KeptInEval,
    StepTimer,
    WarmUpCosine,
    steps_per_epoch,
)
from benchmarks.loggers import open_loggers
from benchmarks.measure import MEASURED, accuracy, device_of, pretrained_panel, probe_panel
from benchmarks.model import build_model, build_optimizer
from benchmarks.streams.build import Stream, load_panel, load_stream
from benchmarks.streams.concepts import Split

Row = list[float | None]


def epochs_of(config: Config, stream: Stream) -> list[int]:
    """Epochs of each experience.

    Raises:
        ValueError: when ``train.epochs`` has another number of entries.
    """
    asked, count = config.train.epochs, len(stream.train)
    if isinstance(asked, int):
        return [asked] * count
    if len(asked) != count:
        raise ValueError(f"train.epochs has {len(asked)} entries, the stream {count} experiences")
    return list(asked)


def planned_steps(config: Config, stream: Stream) -> int:
    """How many training steps the run will take."""
    total = 0
    for experience, epochs in zip(stream.train, epochs_of(config, stream), strict=True):
        total += epochs * steps_per_epoch(
            len(experience.dataset),
            len(set(experience.classes_in_this_experience)),
            config.train.batch,
            config.train.batches == "balanced",
        )
    return total


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
    device = device_of(config)
    backbone = build_backbone(config)
    views = build_views(config, backbone)
    stream, panel = load_stream(config, views), load_panel(config, views)
    epochs = epochs_of(config, stream)
    torch.manual_seed(config.seed)
    model: Any = build_model(config, backbone, stream)
    if config.train.channels_last:
        model.to(memory_format=torch.channels_last)
    model.to(device)
    before = pretrained_panel(model.tower, panel, config, device)
    optimizer = build_optimizer(config, model)  # which may freeze the tower
    timer, method = StepTimer(after_step), config.make_plugins()
    shared: list[Any] = [timer]
    if config.train.batches == "balanced":
        shared.append(BalancedBatches(model.tower, config.seed))
    if config.train.lr == 0 or config.train.batch_norm == "frozen":
        shared.append(KeptInEval(all_of_it=config.train.lr == 0))
    if config.head.kind == "probe":
        shared.append(LPFTPlugin(l2=config.head.l2, refit=False))
    fixed = config.head.kind == "zero-shot" or not (stream.tasks or stream.grows)
    matrix: list[Row] = [_row(model, stream, 0, fixed, config, device)]
    with open_loggers(config, folder) as loggers:
        strategy = Naive(
            model=model,
            optimizer=optimizer,
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
        loading = {"num_workers": config.where.workers}
        terms, learnt = [], []
        for number, experience in enumerate(stream.train):
            strategy.train_epochs = epochs[number]
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
    after = probe_panel(model.tower, panel, config, device)
    kept = [_validated(model, stream, n, config, device) for n in range(len(stream.train))]
    # one experience alone cannot be forgotten, and Avalanche then reports 0
    forgetting = next(v for k, v in found.items() if k.startswith("StreamForgetting"))
    counts = [len(e.dataset) for e in stream.test]
    weights = counts if stream.grows else [1] * len(counts)

    def panel_part(split: Split) -> dict[str, Any]:
        first, last = ({n: v[n][split] for n in v} for v in (before, after))
        changes = [last[n] - first[n] for n in first]
        change = statistics.mean(changes) if changes else None
        return {"panel_before": first, "panel_after": last, "delta_lp": change}

    parts: dict[Split, dict[str, Any]] = {split: panel_part(split) for split in MEASURED}
    return {
        "run_id": config.identity,
        "config": plain(config),
        "stream": {**stream.summary, "names": list(stream.names), "test_counts": counts},
        "feature_source": next((str(p.source) for p in method if hasattr(p, "source")), None),
        "test": {
            "accuracy_matrix": matrix,
            "weighted_by": "image" if stream.grows else "experience",
            "stream_accuracy": _weighted(matrix[-1], weights),
            "average_accuracy": statistics.mean(
                _weighted(row[: k + 1], weights[: k + 1]) for k, row in enumerate(matrix[1:])
            ),
            "forgetting_avalanche": float(forgetting),
            **parts["test"],
        },
        "validation": {
            "learning_accuracy": None if None in learnt else statistics.mean(map(float, learnt)),
            "stream_accuracy": None if None in kept else statistics.mean(map(float, kept)),
            **parts["validation"],
        },
        "loss_terms": terms,
        "steps": len(timer.seconds),
        "seconds_per_step": statistics.median(timer.seconds),
        "seconds": time.perf_counter() - started,
        "teacher_forwards": sum(p.teacher_forwards for p in method if isinstance(p, FeaturePlugin)),
        "peak_gpu_bytes": torch.cuda.max_memory_allocated(device)
        if device.type == "cuda"
        else None,
        "versions": {
            "avalanche-proxyfda": __version__,
            **{n: version(n) for n in ("torch", "avalanche-lib", "open_clip_torch", "numpy")},
        },
        "machine": {
            "processor": platform.machine(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
        },
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


def _weighted(values: Row, weights: list[int]) -> float:
    total = sum(float(v or 0.0) * w for v, w in zip(values, weights, strict=True))
    return total / sum(weights)


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
