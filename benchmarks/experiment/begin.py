"""The data and weights that a run begins with, in its record and its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from avalanche_proxyfda.checkpoint import CheckpointError
from benchmarks.config import Config
from benchmarks.experiment.prepare import Prepared
from benchmarks.experiment.record import state_hash
from benchmarks.results.same_data import RunData
from benchmarks.results.splits import set_hashes


def data_of(config: Config, prepared: Prepared) -> RunData:
    """Describe the data and the weights of a run before its first step.

    Args:
        config: configuration of the run.
        prepared: the run before its first step.
    """
    return RunData(
        stream=prepared.stream.summary,
        panel={data.images.name: data.sha256 for data in prepared.panel},
        reference=None if prepared.reference is None else prepared.reference.about,
        tower=state_hash(prepared.model.tower) if config.backbone.in_file else None,
    )


def begun_with(config: Config, prepared: Prepared, weights_hash: str) -> dict[str, str]:
    """Return hashes that a resumed run must share with the run that saved the checkpoint.

    The hashes of the images are in the ``data`` of the checkpoints. These are younger, and older
    checkpoints lack them.

    Args:
        config: configuration of the run.
        prepared: the run before its first step.
        weights_hash: SHA-256 of the tower before training.
    """
    begun, order = {}, set_hashes(prepared.stream.summary)
    if not config.backbone.is_random:
        begun["the weights of the backbone (backbone.weights)"] = weights_hash
    if order is not None:
        begun["the data sets of the stream, in their order (stream.sets)"] = " ".join(order)
    if prepared.reference is not None and prepared.reference.about.texts_sha256 is not None:
        begun["the reference texts (reference_data.texts)"] = prepared.reference.about.texts_sha256
    return begun


def check_begun(saved: Mapping[str, str], now: Mapping[str, str], folder: Path) -> None:
    """Refuse a checkpoint of a run that began with other weights, sets or texts.

    Args:
        saved: what the checkpoint's run began with; older checkpoints have no entries.
        now: what this run begins with.
        folder: folder of the checkpoint.

    Raises:
        CheckpointError: if an entry of both differs.
    """
    changed = [name for name, value in now.items() if saved.get(name, value) != value]
    if changed:
        raise CheckpointError(
            f"{folder} was saved by a run that began with other data under the same names: "
            f"{', '.join(changed)} changed since then. Put the earlier files back to resume, or "
            f"delete {folder} to start again"
        )
