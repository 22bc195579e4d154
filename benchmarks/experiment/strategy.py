"""The Avalanche strategy of a run."""

from __future__ import annotations

from typing import Any

from avalanche.evaluation.metrics import accuracy_metrics, forgetting_metrics
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from avalanche_proxyfda import LPFTPlugin
from avalanche_proxyfda.distributed import DistributedTraining
from avalanche_proxyfda.losses.smoothed import SmoothedCrossEntropy
from avalanche_proxyfda.pixels import InputPipeline
from benchmarks.config import Config, precision_of
from benchmarks.experiment.epoch_loss import EpochLoss
from benchmarks.experiment.loop import ObservedEfficientNaive, ObservedNaive
from benchmarks.experiment.prepare import Prepared
from benchmarks.experiment.ranks import launched
from benchmarks.experiment.training import BalancedBatches, KeptInEval, StepTimer, WarmUpCosine
from benchmarks.methods.plugins import arguments_of


def build_strategy(
    prepared: Prepared, config: Config, timer: StepTimer, method: list[Any], loggers: list[Any]
) -> Any:
    """The strategy: plugins that all methods share, the method's own, and the learning rates.

    Args:
        prepared: model, optimizer and device.
        config: configuration of the run.
        timer: counts and times the steps.
        method: plugins of the method.
        loggers: Avalanche's loggers.
    """
    train = config.train
    shared: list[Any] = [*([DistributedTraining()] if launched() else []), timer]
    if train.pipeline != "pil":
        shared.append(InputPipeline(config.seed))
    if train.batches == "balanced" and "mining" not in arguments_of(config.method):
        size = train.classes_per_batch, train.samples_per_class
        shared.append(BalancedBatches(prepared.model.tower, *size, config.seed))
    if train.batch_norm == "frozen" or not config.trains_tower:
        shared.append(KeptInEval(all_of_it=not config.trains_tower))
    if config.head.kind == "probe":
        shared.append(LPFTPlugin(l2=config.head.l2, refit=False))
    kind: Any = ObservedNaive
    options: dict[str, Any] = {}
    precision = precision_of(train)
    if precision != "float32" or train.accumulate > 1 or train.steps is not None:
        kind = ObservedEfficientNaive
        options = {"precision": precision, "accumulate": train.accumulate}
    smoothing = train.label_smoothing
    criterion = SmoothedCrossEntropy(smoothing) if smoothing else nn.CrossEntropyLoss()
    return kind(
        timer=timer,
        model=prepared.model,
        optimizer=prepared.optimizer,
        criterion=criterion,
        train_mb_size=train.batch,
        eval_mb_size=train.eval_batch,
        device=prepared.device,
        plugins=[*shared, *method, WarmUpCosine(train.warm_up, train.clip, prepared.factors)],
        evaluator=EvaluationPlugin(
            accuracy_metrics(experience=True, stream=True),
            forgetting_metrics(stream=True),
            EpochLoss(),
            loggers=loggers,
        ),
        **options,
    )
