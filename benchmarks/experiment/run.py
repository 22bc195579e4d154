"""One run: a configuration in, its record out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from avalanche_proxyfda._accelerator import pins_memory, reset_peak_memory
from avalanche_proxyfda.checkpoint import Checkpoints, is_there
from avalanche_proxyfda.distributed import computed_by_main
from avalanche_proxyfda.models import find_text_tower
from benchmarks.config import Config
from benchmarks.experiment.begin import begun_with, check_begun
from benchmarks.experiment.evaluator import (
    accuracy_on,
    epoch_counts,
    stream_forgetting,
    terms_since,
)
from benchmarks.experiment.kept import check_keepable
from benchmarks.experiment.loggers import open_loggers
from benchmarks.experiment.measure import accuracies as accuracies_of
from benchmarks.experiment.measure import measure_panel, panel_heads, pretrained_panel
from benchmarks.experiment.numerics import numerics, resolved
from benchmarks.experiment.prepare import Prepared, prepare
from benchmarks.experiment.progress import Progress, Row
from benchmarks.experiment.provenance import provenance
from benchmarks.experiment.ranks import is_main
from benchmarks.experiment.record import Trained, record_of, state_hash
from benchmarks.experiment.strategy import build_strategy
from benchmarks.experiment.training import StepTimer
from benchmarks.methods.combined import versions_of
from benchmarks.methods.plugins import plugins_of
from benchmarks.results.record import Record, Selection


def run(
    config: Config,
    after_step: Callable[[int], object] | None = None,
    folder: Path | None = None,
    selection: Selection | None = None,
    parallel: int = 1,
    checkpoint: Path | None = None,
) -> Record:
    """Learn the stream by the method; measure accuracy, forgetting, the panel and cost.

    Figures of the validation split are for choosing settings, figures of the test split for
    reporting. Both come from one training.

    Args:
        config: configuration of the run.
        after_step: called with 1 after each training step; a resumed run first calls it with
            the number of earlier steps below 0, such as -500.
        folder: folder of loggers' files and of weights (``where.loggers``,
            ``where.keep_weights``).
        selection: how the setting was chosen, for the record.
        parallel: runs at a time on the machine, for the record.
        checkpoint: folder of the run's checkpoints. A checkpoint there is resumed; it stays, and
            the writer of the record deletes it. None saves nothing.

    Raises:
        FileNotFoundError, ValueError: when data, weights or settings do not fit.
        CheckpointError: when the checkpoint is of another configuration, version, images or
            weights.
    """
    config = resolved(config)
    with numerics(config.train):
        return _run(config, after_step, folder, selection or Selection(), parallel, checkpoint)


def _run(
    config: Config,
    after_step: Callable[[int], object] | None,
    folder: Path | None,
    selection: Selection,
    parallel: int,
    checkpoint: Path | None,
) -> Record:
    progress = Progress()  # its clock runs from here
    prepared = prepare(config)
    if config.where.keep_weights:
        check_keepable(config, prepared)
    how = provenance(config, prepared.device, parallel)  # now: files may change during the run
    weights_hash = state_hash(prepared.model.tower)
    reset_peak_memory(prepared.device)
    reference = prepared.reference and prepared.reference.data
    timer, method = StepTimer(after_step), plugins_of(config, reference)
    progress.begun = begun_with(config, prepared, weights_hash)
    trained = learn(config, prepared, timer, method, progress, folder, checkpoint)
    return computed_by_main(lambda: record_of(trained, how, weights_hash, selection, folder))


class _Accuracies:
    """Accuracies of the model on the experiences of the stream, without Avalanche's loop.

    Args:
        config: configuration of the run.
        prepared: model, stream and device.
    """

    def __init__(self, config: Config, prepared: Prepared) -> None:
        self._config, self._prepared = config, prepared
        stream = prepared.stream
        with_words = ("zero-shot",) if stream.grows else ("zero-shot", "text-start")
        one_for_all = not (stream.tasks or stream.grows)
        self._heads_exist = one_for_all or config.head.kind in with_words

    def _on(self, experiences: Sequence[Any]) -> tuple[float, ...]:
        prepared, config = self._prepared, self._config
        sets = [experience.dataset for experience in experiences]
        return computed_by_main(
            lambda: accuracies_of(prepared.model, sets, config, prepared.device)
        )

    def test_from(self, first: int) -> Row:
        """Test accuracies from experience ``first`` on; None where there is no head yet."""
        rest = self._prepared.stream.test[first:]
        return self._on(rest) if self._heads_exist else (None,) * len(rest)

    def validation(self, first: int, end: int) -> tuple[float, ...]:
        """Validation accuracies on the experiences ``first`` to ``end - 1``."""
        return self._on(self._prepared.stream.validation[first:end])


def learn(
    config: Config,
    prepared: Prepared,
    timer: StepTimer,
    method: list[Any],
    progress: Progress,
    folder: Path | None = None,
    checkpoint: Path | None = None,
) -> Trained:
    """Train on every experience, and measure before the first and after each.

    Args:
        config: configuration of the run.
        prepared: the run before its first step.
        timer: counts and times the steps.
        method: plugins of the method.
        progress: clock and measurements; a resumed run goes on with the checkpoint's.
        folder: see :func:`run`.
        checkpoint: see :func:`run`.
    """
    stream, model = prepared.stream, prepared.model
    measured = prepared.panel if is_main() else []  # the other ranks get rank 0's record
    text = find_text_tower(model)
    heads, wordless = panel_heads(config, prepared.backbone, measured, prepared.device, text)
    panel = (measured, heads, config, prepared.device)
    accuracies = _Accuracies(config, prepared)
    pinned = pins_memory(prepared.device)
    loading = {"num_workers": config.train.workers, "pin_memory": pinned}
    with open_loggers(config, folder, again=is_there(checkpoint)) as loggers:
        strategy = build_strategy(prepared, config, timer, method, loggers)
        checkpoints = _checkpoints(config, prepared, strategy, checkpoint)
        resumed = None if checkpoints is None else checkpoints.resume()
        if resumed is not None and checkpoints is not None:
            progress = _resumed(resumed.extra, progress.begun, checkpoints.folder)
            progress.resumed.append(resumed.source)
            timer.catch_up()
        if not progress.matrix:
            progress.matrix.append(accuracies.test_from(0))
            progress.moments = {0: pretrained_panel(model, *panel)} if measured else {}
        if checkpoints is not None:
            checkpoints.extra = progress.plain
        done = 0 if resumed is None else resumed.experiences
        for number, experience in list(enumerate(stream.train))[done:]:
            strategy.train_epochs = prepared.epochs[number]
            strategy.train_steps = prepared.steps[number]
            if resumed is None or not resumed.inside or number > done:
                progress.known = epoch_counts(strategy.evaluator)
            with progress.in_training():
                strategy.train(experience, eval_streams=[], reset_optimizer_state=True, **loading)
            progress.terms.append(terms_since(strategy.evaluator, progress.known))
            progress.source = next((str(p.source) for p in method if hasattr(p, "source")), None)
            # heads of later experiences do not exist yet
            results = strategy.eval(stream.test[: number + 1], **loading)
            learnt = (accuracy_on(place, results) for place in range(number + 1))
            progress.matrix.append((*learnt, *accuracies.test_from(number + 1)))
            progress.forgetting = stream_forgetting(results)
            if stream.validation is not None:
                progress.learnt += accuracies.validation(number, number + 1)
            last = number == len(stream.test) - 1
            if measured and (config.panel.each_experience or last):
                moment = measure_panel(model, *panel)
                optional = config.panel.transport and last
                progress.moments[number + 1] = moment.compared(
                    progress.moments[0], optional, prepared.device
                )
            if checkpoints is not None:
                checkpoints.save_if_possible()
    validation_last = None
    if progress.learnt:
        # the model is that of right after the last
        earlier = accuracies.validation(0, len(progress.learnt) - 1)
        validation_last = (*earlier, progress.learnt[-1])
    progress.count()
    return Trained(config, prepared, strategy, timer, method, progress, wordless, validation_last)


def _resumed(content: Mapping[str, Any], begun: dict[str, str], folder: Path) -> Progress:
    """Return the progress of a checkpoint, whose run must have begun as this run does."""
    progress = Progress.of(content)
    check_begun(progress.begun, begun, folder)
    progress.begun = begun  # older checkpoints lack entries
    return progress


def _checkpoints(
    config: Config, prepared: Prepared, strategy: Any, folder: Path | None
) -> Checkpoints | None:
    """The run's checkpoints; None without a folder."""
    if folder is None:
        return None
    where = config.where
    versions = versions_of(config.method, config.companions).values()
    images = {"the images of the stream": prepared.stream.summary["split_sha256"]}
    if prepared.reference is not None:
        images["the reference images"] = prepared.reference.about.images_sha256
    images |= {f"the images of the panel's {d.images.name}": d.sha256 for d in prepared.panel}
    return Checkpoints(
        strategy,
        folder,
        where.checkpoint_steps,
        where.checkpoint_minutes,
        identity=f"{config.identity}:{'+'.join(map(str, versions))}",
        data=images,
    )
