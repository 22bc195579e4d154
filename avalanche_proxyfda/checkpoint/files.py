"""Checkpoint files: atomic, with a checksum, and with the previous checkpoint beside them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avalanche_proxyfda._files import expanded, remove_leftovers, replacing, sync_folder
from avalanche_proxyfda.checkpoint.tree import decode, encode

FORMAT = 1
LATEST, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"
PASSED_OVER = "checkpoint.damaged.safetensors"


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message gives the reason."""


def write_state(folder: Path, state: Mapping[str, Any]) -> Path:
    """Write ``state`` as the latest checkpoint of ``folder``.

    The latest checkpoint until now becomes the previous one. If ``folder`` has a whole
    checkpoint, it has one at every moment of the write.

    Returns:
        Path of the latest checkpoint.

    Raises:
        UnsavedError: for a state that is not plain data.
        OSError: if the file cannot be written; the earlier checkpoints stay.
    """
    tensors: dict[str, Tensor] = {}
    document = json.dumps(encode(state, tensors), allow_nan=False)
    # safetensors 0.4 does not read a file without tensors
    table = _independent(tensors) or {"nothing": torch.zeros(1)}
    meta = {"format": str(FORMAT), "state": document, "sha256": _checksum(document, table)}
    latest = folder / LATEST
    with replacing(latest, previous=folder / PREVIOUS) as temporary:
        try:
            save_file(table, str(temporary), metadata=meta)
        except SafetensorError as error:  # safetensors raises it for every error of the disk
            raise OSError(str(error)) from error
    return latest


def _independent(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors on the CPU; no two of them share memory."""
    table: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.cpu().contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in storages or storage.nbytes() != plain.nbytes:
            plain = plain.clone()
        storages.add(plain.untyped_storage().data_ptr())
        table[name] = plain
    return table


def _checksum(document: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(document.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_state(path: Path) -> dict[str, Any]:
    """Read the state of one checkpoint file.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if the file is damaged or has another format.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no checkpoint {path}: check the path, or train from the start"
        )
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            if meta.get("format") != str(FORMAT):
                raise CheckpointError(
                    f"{path} has format {meta.get('format')!r}, and this version reads format "
                    f"{FORMAT}: resume with the version that wrote it, or delete it to start again"
                )
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        document = meta["state"]
        if _checksum(document, tensors) != meta["sha256"]:
            raise CheckpointError(f"{path} is damaged: its checksum does not match its content")
        state: dict[str, Any] = decode(json.loads(document), tensors)
    except (SafetensorError, KeyError, ValueError, AttributeError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged or no checkpoint: {error}") from error
    return state


def read_latest(folder: Path) -> tuple[dict[str, Any], Path, str | None]:
    """Read the latest whole checkpoint of ``folder``.

    Returns:
        The state, its file, and the reason why a later file was skipped (None without one).

    Raises:
        FileNotFoundError: if the folder has no checkpoint.
        CheckpointError: if the folder has checkpoint files, and all of them are damaged.
    """
    reasons: list[str] = []
    for name in (LATEST, PREVIOUS):
        try:
            state = read_state(folder / name)
        except FileNotFoundError:
            continue
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        return state, folder / name, "; ".join(reasons) or None
    if reasons:
        raise CheckpointError(
            "; ".join(reasons) + f". No earlier checkpoint is whole: delete {folder} to start again"
        )
    raise FileNotFoundError(
        f"{folder} holds no checkpoint: check the path, or train from the start"
    )


def set_aside(folder: Path) -> None:
    """Rename the latest file, which is damaged.

    Otherwise the next save would replace the previous checkpoint, which is whole, by it.
    """
    with suppress(OSError):  # if the rename fails, the next save fails too
        os.replace(folder / LATEST, folder / PASSED_OVER)
        sync_folder(folder)


def clean(folder: Path | str) -> None:
    """Delete the checkpoints of ``folder`` and the temporary files of killed saves.

    Other files stay. The folder is deleted if it is empty afterwards.

    Args:
        folder: folder of the checkpoints; ``~`` is the home folder. It may be missing.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from avalanche_proxyfda.checkpoint import clean
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("checkpoint.safetensors", "metrics.csv"):
        ...         Path(folder, name).touch()
        ...     clean(folder)
        ...     [path.name for path in Path(folder).iterdir()]
        ['metrics.csv']
    """
    folder = expanded(folder)
    remove_leftovers(folder / LATEST)
    for name in (LATEST, PREVIOUS, PASSED_OVER):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # the folder is not empty, or does not exist
        folder.rmdir()
