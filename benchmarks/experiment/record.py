"""The record of a run."""

from __future__ import annotations

import hashlib
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avalanche_proxyfda._accelerator import peak_memory
from avalanche_proxyfda.plugins.base.features import FeaturePlugin
from benchmarks.config import Config, plain
from benchmarks.experiment.kept import keep
from benchmarks.experiment.prepare import Prepared
from benchmarks.experiment.progress import Progress
from benchmarks.experiment.provenance import provenance
from benchmarks.experiment.training import StepTimer
from benchmarks.results.places import scrubbed
from benchmarks.results.record import (
    SCHEMA_VERSION,
    Cost,
    How,
    Moment,
    Outcome,
    PanelSet,
    Record,
    Selection,
    Stream,
)


@dataclass(frozen=True, eq=False)
class Trained:
    """A run after its last step.

    Attributes:
        config: configuration of the run.
        prepared: model, stream, panel and device.
        strategy: the Avalanche strategy that trained.
        timer: counts and times of the steps.
        method: plugins of the method.
        progress: measurements of the run.
        wordless: reason why a panel set has no zero-shot accuracy, by set.
        validation_last: validation accuracies at the end; None without validation data.
    """

    config: Config
    prepared: Prepared
    strategy: Any
    timer: StepTimer
    method: list[Any]
    progress: Progress
    wordless: dict[str, str]
    validation_last: tuple[float, ...] | None


def record_of(
    trained: Trained, how: How, weights_hash: str, selection: Selection, folder: Path | None = None
) -> Record:
    """The record of a finished run; ``where.keep_weights`` writes the weights to ``folder``.

    Args:
        trained: the run.
        how: provenance, as it was when the run began.
        weights_hash: SHA-256 of the tower before training.
        selection: how the setting was chosen.
        folder: folder of the run's own files.
    """
    progress, wordless = trained.progress, trained.wordless
    reference = trained.prepared.reference
    return Record(
        schema_version=SCHEMA_VERSION,
        run_id=trained.config.identity,
        status="finished",
        reason=None,
        how=how,
        selection=selection,
        stream=_stream(trained.prepared),
        panel={
            data.images.name: PanelSet(
                sha256=data.sha256,
                dropped=data.dropped,
                **data.counts,
                no_zero_shot=wordless.get(data.images.name),
            )
            for data in trained.prepared.panel
        },
        initial_tower_sha256=weights_hash,
        feature_source=progress.source,
        outcome=_outcome(trained),
        cost=_cost(trained),
        resumed_from="; ".join(progress.resumed) or None,
        artefacts=keep(trained.config, trained.prepared, folder),
        reference_data=None if reference is None else reference.about,
    )


def failed_record(
    config: Config, reason: str, selection: Selection | None = None, parallel: int = 1
) -> Record:
    """The record of a run that ended with an error.

    Args:
        config: configuration of the run.
        reason: kind and message of the error.
        selection: how the setting was chosen.
        parallel: runs at a time on the machine.
    """
    return Record(
        schema_version=SCHEMA_VERSION,
        run_id=config.identity,
        status="failed",
        reason=scrubbed(reason, plain(config)),
        how=provenance(config, None, parallel),
        selection=selection or Selection(),
        stream=None,
        panel=None,
        initial_tower_sha256=None,
        feature_source=None,
        outcome=None,
        cost=None,
        resumed_from=None,
        artefacts={},
    )


def _outcome(trained: Trained) -> Outcome:
    progress = trained.progress
    return Outcome(
        accuracy=tuple(progress.matrix),
        avalanche_forgetting=progress.forgetting,
        validation_learnt=tuple(progress.learnt) or None,
        validation_last=trained.validation_last,
        panel=tuple(
            Moment(
                after=after,
                linear_probe=moment.linear_probe,
                zero_shot=moment.zero_shot,
                drift=moment.drift,
            )
            for after, moment in progress.moments.items()
        ),
        loss_terms=tuple(progress.terms),
    )


def _cost(trained: Trained) -> Cost:
    timer, progress, model = trained.timer, trained.progress, trained.prepared.model
    device = trained.prepared.device
    with_teacher = [p for p in trained.method if isinstance(p, FeaturePlugin)]
    lookups = sum(p.cache_lookups for p in with_teacher)
    return Cost(
        seconds=progress.spent,
        train_seconds=progress.training,
        seconds_per_step=statistics.median(timer.seconds),
        loader_seconds_per_step=timer.loader_seconds / len(timer.seconds),
        steps=len(timer.seconds),
        samples=timer.samples,
        student_forwards=timer.forwards
        + getattr(trained.strategy, "extra_forwards", 0)
        + sum(getattr(p, "mining_forwards", 0) for p in with_teacher)
        + sum(p.reference_forwards for p in with_teacher),
        teacher_forwards=sum(p.teacher_forwards for p in with_teacher),
        peak_rss_bytes=timer.peak_rss,
        peak_gpu_bytes=peak_memory(device),
        parameters_trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
        parameters_stored=sum(p.numel() for p in model.parameters()),
        text_forwards=timer.text_forwards + sum(p.reference_text_forwards for p in with_teacher)
        if trained.config.trains_text
        else None,
        cache_lookups=lookups or None,
        cache_hits=sum(p.cache_hits for p in with_teacher) if lookups else None,
    )


def _stream(prepared: Prepared) -> Stream:
    stream = prepared.stream

    def counts(experiences: Any) -> tuple[int, ...]:
        return tuple(len(experience.dataset) for experience in experiences)

    return Stream(
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
    """SHA-256 of a module's weights and buffers, names included."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
