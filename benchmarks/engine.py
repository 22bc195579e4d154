"""One run on the ``concepts`` stream: a configuration in, everything that happened out."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from avalanche.evaluation.metrics import accuracy_metrics, forgetting_metrics
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda import FDAPlugin, ProxyFDAPlugin, __version__
from avalanche_proxyfda.metrics import select_probe
from avalanche_proxyfda.models import TaskHeads
from avalanche_proxyfda.plugins.base import FeaturePlugin
from avalanche_proxyfda.plugins.batches import HardClassBatches
from benchmarks import tiny_clip
from benchmarks.finetune import StepTimer, WarmUpCosine
from benchmarks.streams.concepts import PANEL, SEQUENCE, Split, concept, concepts

METHODS = ("finetune", "fda", "proxy-fda")
_WIDTH = 128  # of the embedded model's embedding


@dataclass(frozen=True)
class RunConfig:
    """What decides a run; the same configuration gives the same numbers on one machine.

    Attributes:
        method: one of :data:`METHODS`.
        weight: lambda; ignored by plain fine-tuning.
        num_neighbors: K; ignored by plain fine-tuning.
        teacher: ``"previous"`` or ``"initial"``.
        lr: peak learning rate of AdamW.
        epochs: of each experience.
        batch: samples a step.
        seed: of heads and batches.
        evaluate_on: ``"test"``, or ``"validation"`` to choose settings.
        sequence: data sets to learn, in order.
        panel: data sets to probe before and after.
    """

    method: str
    weight: float = 0.3
    num_neighbors: int = 16
    teacher: str = "previous"
    lr: float = 3e-4
    epochs: int = 3
    batch: int = 64
    seed: int = 0
    evaluate_on: Split = "test"
    sequence: tuple[str, ...] = SEQUENCE
    panel: tuple[str, ...] = PANEL

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} is unknown; choose one of {METHODS}")
        if not self.sequence or not self.panel:
            raise ValueError("sequence and panel need at least one data set each")
        both = set(self.sequence) & set(self.panel)
        if both:
            raise ValueError(f"{sorted(both)} cannot be learnt and be on the panel at once")

    @property
    def label(self) -> str:
        """A file name for the run."""
        return f"{self.method}-seed{self.seed}"


class BalancedBatches(SupervisedPlugin[Any]):
    """Gives every method the batches that FDA's plugins would use by themselves."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.batches = HardClassBatches(16, None, seed)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Replace the loader; the model as it stands now is what a teacher would be."""
        self.batches.install(strategy, lambda images: embed(strategy.model.tower, images), kwargs)

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Choose the epoch's batches."""
        self.batches.start_epoch(strategy)


def method_plugins(config: RunConfig) -> list[FeaturePlugin]:
    """The plugins that make the method."""
    if config.method == "finetune":
        return []
    kind = FDAPlugin if config.method == "fda" else ProxyFDAPlugin
    return [
        kind("tower", config.weight, config.num_neighbors, teacher=config.teacher, seed=config.seed)
    ]


@torch.no_grad()
def embed(tower: nn.Module, images: Tensor, batch: int = 250) -> Tensor:
    """Features of images [N, ...] in eval mode, [N, D]; the mode is put back."""
    was_training = tower.training
    tower.eval()
    rows = torch.cat([tower(part) for part in images.split(batch)])
    tower.train(was_training)
    return rows


def _probe(tower: nn.Module, name: str) -> Any:
    pairs = []
    for split in ("train", "validation"):
        data = concept(name, split)  # type: ignore[arg-type]
        pairs.append((embed(tower, data.images), torch.tensor(data.targets)))
    return select_probe(pairs[0], pairs[1], len(concept(name, "train").classes))


def probe_accuracy(tower: nn.Module, name: str, evaluate_on: Split) -> float:
    """A_LP of a data set: fitted on train, penalty chosen on validation, both of ``name``."""
    data = concept(name, evaluate_on)
    return float(
        _probe(tower, name).accuracy(embed(tower, data.images), torch.tensor(data.targets))
    )


@cache
def pretrained_accuracy(name: str, evaluate_on: Split) -> float:
    """A_LP of a data set under the pre-trained tower; the same for every method."""
    return probe_accuracy(tiny_clip.load().visual, name, evaluate_on)


def planned_steps(config: RunConfig) -> int:
    """How many training steps the run will take."""
    per_epoch = 0
    for name in config.sequence:
        classes = min(16, len(concept(name, "train").classes))
        size = config.batch // classes * classes
        per_epoch += -(-len(concept(name, "train")) // size)
    return per_epoch * config.epochs


def run(config: RunConfig, after_step: Callable[[], None] | None = None) -> dict[str, Any]:
    """Learn the stream by the method; measure accuracy, forgetting, the panel and cost."""
    started = time.perf_counter()
    tower = tiny_clip.load().visual
    torch.manual_seed(config.seed)
    sizes = [len(concept(name, "train").classes) for name in config.sequence]
    model = TaskHeads(tower, _WIDTH, sizes)
    before = {name: pretrained_accuracy(name, config.evaluate_on) for name in config.panel}
    timer, plugins = StepTimer(after_step), method_plugins(config)
    evaluator = EvaluationPlugin(
        accuracy_metrics(experience=True), forgetting_metrics(stream=True), loggers=[]
    )
    strategy = Naive(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.1),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=config.batch,
        train_epochs=config.epochs,
        eval_mb_size=250,
        plugins=[timer, BalancedBatches(config.seed), *plugins, WarmUpCosine(config.lr)],
        evaluator=evaluator,
    )
    benchmark = concepts(config.evaluate_on, config.sequence)
    matrix, terms = [], []
    for task, experience in enumerate(benchmark.train_stream):
        probe = _probe(tower, config.sequence[task])
        model.set_head(task, probe.weight.float(), probe.bias.float())
        trained = strategy.train(experience, eval_streams=[], reset_optimizer_state=True)
        terms.append({k.split("/")[0]: v for k, v in trained.items() if "_Epoch/" in k})
        found = strategy.eval(benchmark.test_stream[: task + 1])  # later heads are not fitted
        row = [
            next(v for k, v in found.items() if k.startswith("Top1_Acc_Exp") and k.endswith(end))
            for end in (f"Exp{number:03d}" for number in range(task + 1))
        ]
        matrix.append([float(v) for v in row])
    after = {name: probe_accuracy(tower, name, config.evaluate_on) for name in config.panel}
    # one data set alone cannot be forgotten, and Avalanche then reports 0
    forgetting = next(v for k, v in found.items() if k.startswith("StreamForgetting"))
    return {
        "config": asdict(config),
        "accuracy_matrix": matrix,
        "stream_accuracy": statistics.mean(matrix[-1]),
        "forgetting_avalanche": float(forgetting),
        "panel_before": before,
        "panel_after": after,
        "delta_lp": statistics.mean(after[n] - before[n] for n in config.panel),
        "loss_terms": terms,
        "steps": len(timer.seconds),
        "seconds_per_step": statistics.median(timer.seconds),
        "seconds": time.perf_counter() - started,
        "teacher_forwards": sum(p.teacher_forwards for p in plugins),
        "versions": {
            "avalanche-proxyfda": __version__,
            **{n: version(n) for n in ("torch", "avalanche-lib", "open_clip_torch", "numpy")},
        },
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
        },
    }


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
