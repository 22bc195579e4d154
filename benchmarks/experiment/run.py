"""One run: a configuration in, its record out."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from avalanche.evaluation.metrics import accuracy_metrics, forgetting_metrics, loss_metrics
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from safetensors.torch import save
from torch import nn

from avalanche_proxyfda import EfficientNaive, LPFTPlugin
from avalanche_proxyfda._files import write_bytes
from avalanche_proxyfda.checkpoint.checkpoints import (
    Checkpoints,
    is_there,
)
from avalanche_proxyfda.plugins.base.features import (
    FeaturePlugin,
)
from benchmarks.config import Config
from benchmarks.experiment.loggers import (
    open_loggers,
)
from benchmarks.experiment.measure import (
    PanelMoment,
    accuracy,
    measure_panel,
    panel_heads,
    pretrained_panel,
)
from benchmarks.experiment.prepare import (
    Prepared,
    prepare,
)
from benchmarks.experiment.progress import (
    Progress,
    Row,
)
from benchmarks.experiment.provenance import (
    provenance,
)
from benchmarks.experiment.ranks import (
    launched,
)
from benchmarks.experiment.ranks import (
    plugins as plugins_of_ranks,
)
from benchmarks.experiment.training import (
    BalancedBatches,
    KeptInEval,
    StepTimer,
    WarmUpCosine,
)
from benchmarks.methods.plugins import plugins_of
from benchmarks.results.record import (
    SCHEMA_VERSION,
    Cost,
    Moment,
    Outcome,
    PanelSet,
    Record,
    Selection,
    finite_or_none,
)
from benchmarks.results.record import (
    Stream as LearntStream,
)

WEIGHTS = "model.safetensors"


def run(
    config: Config,
    after_step: Callable[[], None] | None = None,
    folder: Path | None = None,
    selection: Selection | None = None,
    jobs: int = 1,
    checkpoint: Path | None = None,
) -> Record:
    """Learn the stream by the method; measure accuracy, forgetting, the panel and cost.

    Figures of the validation split are for choosing settings, those of the test split for
    reporting; both come from the one training.

    Args:
        config: what to run.
        after_step: called after each training step; on going on, for the steps before too.
        folder: where ``where.loggers`` write, and ``where.keep_weights``.
        selection: how the setting was chosen, for the record.
        jobs: runs at a time on the machine, for the record.
        checkpoint: folder of the run's checkpoints; if there is one, the run goes on from
            there. It stays: whoever writes the record deletes it. None saves nothing.

    Raises:
        FileNotFoundError, ValueError: when data, weights or settings are not what they should be.
        CheckpointError: when the checkpoint is of another configuration, code or version.
    """
    progress = Progress()
    made = prepare(config)
    device, stream, model = made.device, made.stream, made.model
    how = provenance(config, device, jobs)  # now: files may change while it runs
    weights_hash = state_hash(model.tower)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    heads, wordless = panel_heads(config, made.backbone, made.panel)
    shown = (made.panel, heads, config, device)
    timer, method = StepTimer(after_step), plugins_of(config)
    fixed = config.head.kind == "zero-shot" or not (stream.tasks or stream.grows)
    places = range(len(stream.test))

    def tested(first: int) -> Row:
        """Test accuracy from experience ``first`` on; None where there is no head yet."""
        if not fixed:
            return (None,) * (len(places) - first)
        return tuple(accuracy(model, e.dataset, config, device) for e in stream.test[first:])

    def validated(number: int) -> float:
        return accuracy(model, stream.validation[number].dataset, config, device)

    with open_loggers(config, folder, again=is_there(checkpoint)) as loggers:
        strategy = _strategy(made, config, timer, method, loggers)
        saved = None
        if checkpoint is not None and not launched():  # which are of one process alone
            where, version = config.where, how.code.method_version
            saved = Checkpoints(
                strategy, checkpoint, where.checkpoint_steps, where.checkpoint_minutes,
                identity=f"{config.identity}:{version}",
            )  # fmt: skip
        found = None if saved is None else saved.resume()
        if found is not None:
            progress = Progress.of(found.extra)
            progress.resumed.append(found.source)
            timer.catch_up()
        if not progress.matrix:
            progress.matrix.append(tested(0))
            progress.moments = {0: pretrained_panel(model, *shown)} if made.panel else {}
        if saved is not None:
            saved.extra = progress.plain
        done = 0 if found is None else found.experiences
        loading = {"num_workers": config.train.workers}
        for number, experience in list(enumerate(stream.train))[done:]:
            strategy.train_epochs = made.epochs[number]
            if found is None or not found.inside or number > done:
                progress.known = _epochs_told(strategy)
            with progress.in_training():
                strategy.train(experience, eval_streams=[], reset_optimizer_state=True, **loading)
            progress.terms.append(_new_terms(strategy, progress.known))
            progress.source = next((str(p.source) for p in method if hasattr(p, "source")), None)
            told = strategy.eval(stream.test[: number + 1], **loading)  # later heads do not exist
            seen = (_accuracy_on(place, told) for place in range(number + 1))
            progress.matrix.append((*seen, *tested(number + 1)))
            # one experience alone cannot be forgotten, and Avalanche then reports 0
            progress.forgetting = next(
                float(v) for k, v in told.items() if k.startswith("StreamForgetting")
            )
            if stream.validation is not None:
                progress.learnt.append(validated(number))
            if made.panel and (config.panel.each_experience or number == places[-1]):
                progress.moments[number + 1] = measure_panel(model, *shown)
            if saved is not None:
                saved.save()
    learnt, moments = progress.learnt, progress.moments
    outcome = Outcome(
        accuracy=tuple(progress.matrix),
        avalanche_forgetting=progress.forgetting,
        validation_learnt=tuple(learnt) if learnt else None,
        validation_last=tuple(map(validated, places)) if learnt else None,
        panel=tuple(_moment(t, m, moments[0], config, len(places)) for t, m in moments.items()),
        loss_terms=tuple(progress.terms),
    )
    artefacts = {}
    if config.where.keep_weights and folder is not None:
        content = save({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()})
        write_bytes(folder / WEIGHTS, content)
        artefacts[f"{folder.name}/{WEIGHTS}"] = hashlib.sha256(content).hexdigest()
    progress.count()
    return Record(
        schema_version=SCHEMA_VERSION,
        run_id=config.identity,
        status="finished",
        reason=None,
        how=how,
        selection=selection or Selection(),
        stream=_described(made),
        panel={
            data.images.name: PanelSet(
                sha256=data.sha256, dropped=data.dropped, **data.counts,
                no_zero_shot=wordless.get(data.images.name),
            )
            for data in made.panel
        },
        initial_tower_sha256=weights_hash,
        feature_source=progress.source,
        outcome=outcome,
        cost=Cost(
            seconds=progress.spent,
            train_seconds=progress.training,
            seconds_per_step=statistics.median(timer.seconds),
            steps=len(timer.seconds),
            samples=timer.samples,
            student_forwards=timer.forwards + getattr(strategy, "extra_forwards", 0),
            teacher_forwards=sum(
                p.teacher_forwards for p in method if isinstance(p, FeaturePlugin)
            ),
            peak_rss_bytes=timer.peak_rss,
            peak_gpu_bytes=(
                torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
            ),
            parameters_trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
            parameters_stored=sum(p.numel() for p in model.parameters()),
            **_cache_use(method),
        ),
        resumed_from="; ".join(progress.resumed) or None,
        artefacts=artefacts,
    )  # fmt: skip


def failed_run(
    config: Config, reason: str, selection: Selection | None = None, jobs: int = 1
) -> Record:
    """The record of a run that ended with an error."""
    return Record(
        schema_version=SCHEMA_VERSION, run_id=config.identity, status="failed",
        reason=reason, how=provenance(config, None, jobs),
        selection=selection or Selection(), stream=None, panel=None, initial_tower_sha256=None,
        feature_source=None, outcome=None, cost=None, resumed_from=None, artefacts={},
    )  # fmt: skip


def _strategy(
    made: Prepared, config: Config, timer: StepTimer, method: list[Any], loggers: list[Any]
) -> Any:
    shared: list[Any] = [*plugins_of_ranks(), timer]
    if config.train.batches == "balanced":
        size = config.train.classes_per_batch, config.train.samples_per_class
        shared.append(BalancedBatches(made.model.tower, *size, config.seed))
    if config.train.lr == 0 or config.train.batch_norm == "frozen":
        shared.append(KeptInEval(all_of_it=config.train.lr == 0))
    if config.head.kind == "probe":
        shared.append(LPFTPlugin(l2=config.head.l2, refit=False))
    kind, more = Naive, {}
    if config.train.precision != "float32" or config.train.accumulate > 1:
        more = {"precision": config.train.precision, "accumulate": config.train.accumulate}
        kind = EfficientNaive
    return kind(
        model=made.model,
        optimizer=made.optimizer,
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=config.train.batch,
        eval_mb_size=config.train.eval_batch,
        device=made.device,
        plugins=[*shared, *method, WarmUpCosine(config.train.warm_up, config.train.clip)],
        evaluator=EvaluationPlugin(
            accuracy_metrics(experience=True, stream=True),
            forgetting_metrics(stream=True),
            loss_metrics(epoch=True),
            loggers=loggers,
        ),
        **more,
    )


def _cache_use(method: list[Any]) -> dict[str, int | None]:
    """Samples that teachers' caches were asked for, and those that they knew."""
    asked = [p for p in method if isinstance(p, FeaturePlugin) and p.cache_lookups]
    if not asked:
        return {"cache_lookups": None, "cache_hits": None}
    return {
        "cache_lookups": sum(p.cache_lookups for p in asked),
        "cache_hits": sum(p.cache_hits for p in asked),
    }


def _accuracy_on(place: int, found: Mapping[str, Any]) -> float:
    """Avalanche's accuracy on one experience."""
    end = f"Exp{place:03d}"
    return next(
        float(v) for k, v in found.items() if k.startswith("Top1_Acc_Exp") and k.endswith(end)
    )


def _epochs_told(strategy: Any) -> dict[str, int]:
    """How many values each metric of epochs has so far."""
    told = strategy.evaluator.get_all_metrics()
    return {name: len(values) for name, (_, values) in told.items() if "_Epoch/" in name}


def _new_terms(strategy: Any, known: Mapping[str, int]) -> dict[str, tuple[float | None, ...]]:
    """Loss terms of the epochs since ``known``, by name."""
    found = {}
    for name, (_, values) in strategy.evaluator.get_all_metrics().items():
        new = values[known.get(name, 0) :]
        if "_Epoch/" in name and "_cache_hit_rate_" not in name and new:
            short = name.partition("/")[0].removesuffix("_Epoch")
            found[short] = tuple(finite_or_none(float(v)) for v in new)
    return found


def _moment(
    after: int, moment: PanelMoment, before: PanelMoment, config: Config, last: int
) -> Moment:
    transport = config.panel.transport and after == last
    return Moment(
        after=after,
        linear_probe=moment.linear_probe,
        zero_shot=moment.zero_shot,
        drift=moment.drift_since(before, transport) if after else {},
    )


def _described(made: Prepared) -> LearntStream:
    stream = made.stream

    def counts(experiences: Any) -> tuple[int, ...]:
        return tuple(len(e.dataset) for e in experiences)

    return LearntStream(
        name=stream.summary["stream"],
        experiences=stream.names,
        split_sha256=stream.summary["split_sha256"],
        train=counts(stream.train),
        validation=None if stream.validation is None else counts(stream.validation),
        test=counts(stream.test),
        weighted_by="image" if stream.grows else "experience",
        summary=stream.summary,
    )


def state_hash(module: nn.Module) -> str:
    """SHA-256 of a module's weights and buffers, names and all."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
