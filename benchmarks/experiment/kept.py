"""The tuned model of a run as a file, which ``where.keep_weights`` asks for."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from avalanche_proxyfda._files import write_bytes
from benchmarks.config import Config

WEIGHTS = "model.safetensors"


def check_keepable(model: nn.Module) -> None:
    """Refuse a model whose state cannot be written, before the model is trained.

    Raises:
        ValueError: if an entry of the state is no tensor, or of a type that safetensors lacks.
    """
    for name, value in model.state_dict().items():
        try:
            save({name: value.detach().reshape(-1)[:1].cpu().clone()})
        except Exception as error:  # an entry may be anything
            raise ValueError(
                f"where.keep_weights=true: {name} of the model cannot be written as safetensors "
                f"({type(error).__name__}: {error}); set where.keep_weights=false"
            ) from error


def weights_bytes(state: Mapping[str, Tensor]) -> bytes:
    """Return a state as the content of a ``.safetensors`` file.

    Tensors that share memory are written once each, as safetensors refuses shared memory.
    """
    return save(
        {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in state.items()
        }
    )


def keep(config: Config, model: nn.Module, folder: Path | None) -> dict[str, str]:
    """Write the tuned model to ``folder`` if the run keeps it; return the SHA-256 by file.

    A file that cannot be written costs no record: a warning says what to do, and the result is
    empty.
    """
    if not config.where.keep_weights or folder is None:
        return {}
    try:
        content = weights_bytes(model.state_dict())
        write_bytes(folder / WEIGHTS, content)
    except Exception as error:  # the numbers of the run are worth more than this file
        warnings.warn(
            f"{config.label}: the tuned model was not kept ({type(error).__name__}: {error}). The "
            "record is written without the model; make room in the folder, and run the same "
            "configuration with --no-resume",
            stacklevel=2,
        )
        return {}
    return {f"{folder.name}/{WEIGHTS}": hashlib.sha256(content).hexdigest()}
