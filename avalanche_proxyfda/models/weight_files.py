"""State dicts from files that others made: tensors alone, and no code of the file is run."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, load_file
from torch import Tensor

_SAFE_TORCH = (2, 6)
_SPARE = 1 << 20


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """A state dict from a file, without running any code that it may hold.

    Args:
        path: ``.safetensors``, or what ``torch.save`` writes: a state dict, or a mapping that
            holds one as ``state_dict``.

    Raises:
        ValueError: when it cannot be read as one, or not safely; names the file.
    """
    try:
        if str(path).endswith(".safetensors"):
            return load_file(path)
        _check_pickled(Path(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
        inner = found.get("state_dict", found) if isinstance(found, Mapping) else found
        return _tensors(inner)
    except Exception as error:  # readers of damaged files raise what they like
        raise ValueError(
            f"weights={str(path)!r} cannot be read as a state dict: {error}"
        ) from error


def parse_weights(content: bytes, name: object) -> dict[str, Tensor]:
    """A state dict from the bytes of a ``.safetensors`` file; ``name`` is for the message.

    Raises:
        ValueError: when they are damaged, or another file's.
    """
    try:
        return load(content)
    except Exception as error:
        raise ValueError(f"{name} is no .safetensors file, or a damaged one: {error}") from error


def _check_pickled(path: Path) -> None:
    """Raise ValueError where torch's own restriction can be got round, or memory be filled."""
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < _SAFE_TORCH:
        raise ValueError(
            f"torch {torch.__version__} cannot be kept from running what such files hold "
            "(CVE-2025-32434): convert it to .safetensors, or use torch 2.6 or newer"
        )
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > path.stat().st_size + _SPARE:  # torch.save compresses nothing
            raise ValueError(f"it is compressed, and {unpacked} bytes when it is unpacked")


def _tensors(found: object) -> dict[str, Tensor]:
    if not isinstance(found, Mapping):
        raise ValueError(f"it holds a {type(found).__name__}, not names and tensors")
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name!r} is a {type(value).__name__}, not a tensor")
    return {str(name).removeprefix("module."): value for name, value in found.items()}
