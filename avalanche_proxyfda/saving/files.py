"""Checkpoint files: whole, checked, and the one before kept."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avalanche_proxyfda.saving.tree import decode, encode

FORMAT = 1
LATEST, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"
PASSED_OVER = "checkpoint.damaged.safetensors"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, and why."""


def write_state(folder: Path, state: Mapping[str, Any]) -> Path:
    """Write ``state`` as the latest checkpoint of ``folder``; the one before becomes the previous.

    At every moment a whole checkpoint is there, if there was one before.

    Raises:
        UnsavedError: for a state that is not plain data.
        OSError: when it cannot be written; what was there stays.
    """
    tensors: dict[str, Tensor] = {}
    document = json.dumps(encode(state, tensors), allow_nan=False)
    packed = _apart(tensors) or {"nothing": torch.zeros(1)}  # safetensors 0.4 reads no empty table
    meta = {"format": str(FORMAT), "state": document, "sha256": _checksum(document, packed)}
    folder.mkdir(parents=True, exist_ok=True)
    latest = folder / LATEST
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".{LATEST}-", suffix=".tmp")
    os.close(handle)
    try:
        try:
            save_file(packed, name, metadata=meta)
        except SafetensorError as error:  # the library's word for any trouble with the disk
            raise OSError(f"{latest} cannot be written: {error}") from error
        with open(name, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp's files are their owner's alone
        if latest.exists():
            os.replace(latest, folder / PREVIOUS)
        os.replace(name, latest)
        _sync(folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise
    return latest


def _sync(folder: Path) -> None:
    """Make renames last, where the system can open a folder."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as the file takes them: on the CPU, contiguous, none sharing memory with another."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.cpu().contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != plain.nbytes:
            plain = plain.clone()
        seen.add(plain.untyped_storage().data_ptr())
        found[name] = plain
    return found


def _checksum(document: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(document.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_state(path: Path) -> dict[str, Any]:
    """The state of one file.

    Raises:
        FileNotFoundError: when there is none.
        CheckpointError: when it is torn, altered, or of another format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            if meta.get("format") != str(FORMAT):
                raise CheckpointError(
                    f"{path} is of format {meta.get('format')!r}, this version reads {FORMAT}: "
                    "go on with the version that wrote it, or begin anew"
                )
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        document = meta["state"]
        if _checksum(document, tensors) != meta["sha256"]:
            raise CheckpointError(f"{path} is damaged: its checksum does not fit")
        state: dict[str, Any] = decode(json.loads(document), tensors)
    except (SafetensorError, KeyError, ValueError, AttributeError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged or no checkpoint: {error}") from error
    return state


def read_latest(folder: Path) -> tuple[dict[str, Any], Path, str | None]:
    """The latest whole checkpoint of ``folder``, its file, and why a later one was passed over.

    Raises:
        FileNotFoundError: when there is none.
        CheckpointError: when there are files, and none of them is whole.
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
            "; ".join(reasons) + f". No earlier checkpoint is whole: delete {folder} to begin anew"
        )
    raise FileNotFoundError(f"{folder} holds no checkpoint")


def set_aside(folder: Path) -> None:
    """Give the latest file, which is not whole, another name.

    The next save would make it the previous one otherwise, in the place of one that is whole.
    """
    with suppress(OSError):  # where this cannot be done nothing can be saved either
        os.replace(folder / LATEST, folder / PASSED_OVER)
        _sync(folder)


def clean(folder: Path) -> None:
    """Delete the checkpoints of ``folder``, and what an interrupted save left; keep all else."""
    for path in folder.glob(f".{LATEST}-*.tmp"):
        path.unlink(missing_ok=True)
    for name in (LATEST, PREVIOUS, PASSED_OVER):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # not empty, or not there
        folder.rmdir()
