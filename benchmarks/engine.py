"""One run on the ``concepts`` stream: a configuration in, everything that happened out."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
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

from avalanche_proxyfda import __version__
from avalanche_proxyfda.metrics import Probe, select_probe
from avalanche_proxyfda.models import TaskHeads
from avalanche_proxyfda.plugins.base import FeaturePlugin
from avalanche_proxyfda.plugins.batches import HardClassBatches
from benchmarks import tiny_clip
from benchmarks.finetune import StepTimer, WarmUpCosine
from benchmarks.methods import METHODS, recipe
from benchmarks.streams.concepts import COUNTS, PANEL, SEQUENCE, Split, concept, concepts

MEASURED: tuple[Split, ...] = ("validation", "test")
_WIDTH = 128  # of the embedded model's embedding


@dataclass(frozen=True)
class RunConfig:
    """What decides a run; the same configuration gives the same numbers on one machine.

    Attributes:
        method: one of :data:`~benchmarks.methods.METHODS`.
        strength: lambda, or whatever the method's knob is; None for plain fine-tuning.
        options: further arguments of the method's plugin, sorted pairs.
        reference: ``"previous"`` or ``"initial"``: the teacher, or the anchors.
        lr: peak learning rate of AdamW.
        epochs: of each experience.
        batch: samples a step.
        seed: of heads and batches.
        sequence: data sets to learn, in order.
        panel: data sets to probe before and after.
    """

    method: str
    strength: float | None = None
    options: tuple[tuple[str, Any], ...] = ()
    reference: str = "previous"
    lr: float = 3e-4
    epochs: int = 2
    batch: int = 64
    seed: int = 0
    sequence: tuple[str, ...] = SEQUENCE
    panel: tuple[str, ...] = PANEL

    def __post_init__(self) -> None:
        known = METHODS[recipe(self.method).method]  # refuses an unknown one
        if (known.knob is None) != (self.strength is None):
            raise ValueError(
                f"strength={self.strength}: {self.method} "
                + ("needs one" if known.knob else "is plain fine-tuning and has none")
            )
        # refuses bad strengths and options here, not in the middle of a run
        known.plugins(self.strength, self.reference, self.seed, dict(self.options))
        if not self.sequence or not self.panel:
            raise ValueError("sequence and panel need at least one data set each")
        both = set(self.sequence) & set(self.panel)
        if both:
            raise ValueError(f"{sorted(both)} cannot be learnt and be on the panel at once")

    @staticmethod
    def of(
        method: str,
        strength: float | None = None,
        options: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> RunConfig:
        """The configuration of the method's recipe, but for what is given.

        Raises:
            ValueError: for an unknown method, or a strength where there is none.
        """
        made = recipe(method)
        merged = {**dict(made.options), **(options or {})}
        strength = made.strength if strength is None else strength
        return RunConfig(method, strength, tuple(sorted(merged.items())), **settings)

    @property
    def label(self) -> str:
        """A file name for the run."""
        at = "" if self.strength is None else f"-{self.strength:g}"
        return f"{self.method}{at}-seed{self.seed}"

    @property
    def about(self) -> str:
        """The method and its strength, to read."""
        knob = METHODS[self.method].knob
        return self.method if knob is None else f"{self.method}, {knob} = {self.strength:g}"


class BalancedBatches(SupervisedPlugin[Any]):
    """Gives every method the same batches, those that FDA's plugins ask for.

    Related classes are found by the pre-trained tower, which no method has changed.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.batches = HardClassBatches(16, None, seed)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Replace the loader."""
        tower = tiny_clip.load().visual
        self.batches.install(strategy, lambda images: embed(tower, images), kwargs)

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Choose the epoch's batches."""
        self.batches.start_epoch(strategy)


@torch.no_grad()
def embed(tower: nn.Module, images: Tensor, batch: int = 50) -> Tensor:
    """Features of images [N, ...] in eval mode, [N, D]; the mode is put back."""
    was_training = tower.training
    tower.eval()
    rows = torch.cat([tower(part) for part in images.split(batch)])
    tower.train(was_training)
    return rows


def probe_accuracies(tower: nn.Module, name: str) -> dict[Split, float]:
    """A_LP of a data set by split: fitted on train, its penalty chosen on validation."""
    labels = {split: torch.tensor(concept(name, split).targets) for split in COUNTS}
    rows = {split: embed(tower, concept(name, split).images) for split in COUNTS}
    probe: Probe = select_probe(
        (rows["train"], labels["train"]), (rows["validation"], labels["validation"]),
        len(concept(name, "train").classes),
    )  # fmt: skip
    return {split: probe.accuracy(rows[split], labels[split]) for split in MEASURED}


@cache
def pretrained_accuracies(name: str) -> dict[Split, float]:
    """A_LP of a data set under the pre-trained tower; the same for every method."""
    return probe_accuracies(tiny_clip.load().visual, name)


@torch.no_grad()
def accuracy(model: TaskHeads, name: str, task: int, split: Split) -> float:
    """Share of a data set's labels that the model predicts, in eval mode."""
    data, training = concept(name, split), model.training
    model.eval()
    logits = model.head(embed(model.tower, data.images), task)
    model.train(training)
    return float((logits.argmax(dim=1) == torch.tensor(data.targets)).double().mean())


def planned_steps(config: RunConfig) -> int:
    """How many training steps the run will take."""
    per_epoch = 0
    for name in config.sequence:
        classes = min(16, len(concept(name, "train").classes))
        size = config.batch // classes * classes
        per_epoch += -(-len(concept(name, "train")) // size)
    return per_epoch * config.epochs


def run(config: RunConfig, after_step: Callable[[], None] | None = None) -> dict[str, Any]:
    """Learn the stream by the method; measure accuracy, forgetting, the panel and cost.

    Figures of the validation splits are for choosing settings, those of the test splits for
    reporting; both come from the one training.
    """
    started = time.perf_counter()
    tower = tiny_clip.load().visual
    torch.manual_seed(config.seed)
    sizes = [len(concept(name, "train").classes) for name in config.sequence]
    model = TaskHeads(tower, _WIDTH, sizes)
    before = {name: pretrained_accuracies(name) for name in config.panel}
    plugins = METHODS[config.method].plugins(
        config.strength, config.reference, config.seed, dict(config.options)
    )
    timer = StepTimer(after_step)
    evaluator = EvaluationPlugin(
        accuracy_metrics(experience=True), forgetting_metrics(stream=True), loggers=[]
    )
    strategy = Naive(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.1),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=config.batch,
        train_epochs=config.epochs,
        eval_mb_size=50,
        plugins=[timer, BalancedBatches(config.seed), *plugins, WarmUpCosine(config.lr)],
        evaluator=evaluator,
    )
    benchmark = concepts("test", config.sequence)
    matrix, terms, learnt = [], [], []
    for task, experience in enumerate(benchmark.train_stream):
        trained = strategy.train(experience, eval_streams=[], reset_optimizer_state=True)
        terms.append({k.split("/")[0]: v for k, v in trained.items() if "_Epoch/" in k})
        found = strategy.eval(benchmark.test_stream[: task + 1])  # later heads are not fitted
        row = [
            next(v for k, v in found.items() if k.startswith("Top1_Acc_Exp") and k.endswith(end))
            for end in (f"Exp{number:03d}" for number in range(task + 1))
        ]
        matrix.append([float(v) for v in row])
        learnt.append(accuracy(model, config.sequence[task], task, "validation"))
    after = {name: probe_accuracies(tower, name) for name in config.panel}
    kept = [accuracy(model, n, task, "validation") for task, n in enumerate(config.sequence)]
    # one data set alone cannot be forgotten, and Avalanche then reports 0
    forgetting = next(v for k, v in found.items() if k.startswith("StreamForgetting"))

    def panel(split: Split) -> dict[str, Any]:
        first, last = ({n: v[n][split] for n in config.panel} for v in (before, after))
        change = statistics.mean(last[n] - first[n] for n in config.panel)
        return {"panel_before": first, "panel_after": last, "delta_lp": change}

    return {
        "config": asdict(config),
        "test": {
            "accuracy_matrix": matrix,
            "stream_accuracy": statistics.mean(matrix[-1]),
            "forgetting_avalanche": float(forgetting),
            **panel("test"),
        },
        "validation": {
            "learning_accuracy": statistics.mean(learnt),
            "stream_accuracy": statistics.mean(kept),
            **panel("validation"),
        },
        "loss_terms": terms,
        "steps": len(timer.seconds),
        "seconds_per_step": statistics.median(timer.seconds),
        "seconds": time.perf_counter() - started,
        "teacher_forwards": sum(
            p.teacher_forwards for p in plugins if isinstance(p, FeaturePlugin)
        ),
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
