"""The tuned model of a run as two files, which ``where.keep_weights`` asks for."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

from safetensors.torch import save

from avalanche_proxyfda._files import write_bytes
from avalanche_proxyfda.tuned import tuned_files
from avalanche_proxyfda.tuned.description import Description
from avalanche_proxyfda.tuned.files import described, state_bytes, tuned_state
from benchmarks.config import Config
from benchmarks.experiment.prepare import Prepared
from benchmarks.streams.stream import Stream
from benchmarks.streams.words import shown_names


def description_of(config: Config, prepared: Prepared) -> Description:
    """Return the description of a run's model, before or after training.

    Raises:
        TypeError, ValueError: if the model cannot be described.
    """
    about = {"method": config.about, "run_id": config.identity, "run": config.label}
    return described(prepared.model, prepared.backbone, _classes(prepared.stream), about)


def _classes(stream: Stream) -> dict[str, tuple[str, ...]]:
    """Return the class names of each task; a stream without tasks has one, called ``all``."""
    if not stream.tasks:
        return {"all": shown_names(stream.classes[0])}
    found: dict[str, tuple[str, ...]] = {}
    for number, (name, names) in enumerate(zip(stream.names, stream.classes, strict=True), 1):
        found[f"{name} ({number})" if name in found else name] = shown_names(names)
    return found


def check_keepable(config: Config, prepared: Prepared) -> None:
    """Refuse a model that cannot be written, before it is trained.

    Raises:
        ValueError: if an entry of the state is no tensor or of a type that safetensors lacks, or
            the model cannot be described.
    """
    remedy = "set where.keep_weights=false"
    for name, value in prepared.model.state_dict().items():
        try:
            save({name: value.detach().reshape(-1)[:1].cpu().clone()})
        except Exception as error:  # an entry may be anything
            raise ValueError(
                f"where.keep_weights=true: {name} of the model cannot be written as safetensors "
                f"({type(error).__name__}: {error}); {remedy}"
            ) from error
    try:
        description_of(config, prepared)
    except (TypeError, ValueError) as error:
        raise ValueError(f"where.keep_weights=true: {error}; or {remedy}") from error


def keep(config: Config, prepared: Prepared, folder: Path | None) -> dict[str, str]:
    """Write the tuned model to ``folder`` if the run keeps it; return the SHA-256 by file.

    A file that cannot be written costs no record: a warning says what to do, and the result is
    empty.
    """
    if not config.where.keep_weights or folder is None:
        return {}
    try:
        weights = state_bytes(tuned_state(prepared.model))
        files = tuned_files(description_of(config, prepared), weights)
        for name, content in files.items():
            write_bytes(folder / name, content)
    except Exception as error:  # the numbers of the run are worth more than these files
        warnings.warn(
            f"{config.label}: the tuned model was not kept ({type(error).__name__}: {error}). The "
            "record is written without the model; make room in the folder, and let "
            "`python -m benchmarks export RECORD` train the run again",
            stacklevel=2,
        )
        return {}
    return {
        f"{folder.name}/{name}": hashlib.sha256(content).hexdigest()
        for name, content in files.items()
    }
