"""Reads state dicts from untrusted files, without running code from the file."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, load_file
from torch import Tensor

from avalanche_proxyfda._checks import named_kind
from avalanche_proxyfda._files import expanded

_SAFE_TORCH = (2, 6)  # what setup.cfg requires; pip only warns when another torch replaces it
_SPARE = 1 << 20  # bytes by which the content of a zip file may exceed the file
_STATES = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys of a checkpoint's state, as timm reads them: averaged weights first."""
_WRAPPERS = ("module.", "_orig_mod.")  # of DistributedDataParallel and of torch.compile


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Read a state dict from a file, without running code from the file.

    Args:
        path: a ``.safetensors`` file, or a file of ``torch.save`` with a state dict or with a
            mapping that holds a state dict as ``state_dict_ema``, ``model_ema``, ``state_dict``
            or ``model``. The first of these that the mapping has is read, so that averaged
            weights (EMA) win.

    Returns:
        Tensors by name, on the CPU, without the prefixes ``module.`` of DistributedDataParallel
        and ``_orig_mod.`` of ``torch.compile``.

    Raises:
        ValueError: when the file does not hold a state dict, or is not safe to read.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from avalanche_proxyfda.models import read_weights
        >>> from safetensors.torch import save_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_file({"module.bias": torch.ones(2)}, f"{folder}/weights.safetensors")
        ...     read_weights(f"{folder}/weights.safetensors")
        {'bias': tensor([1., 1.])}
    """
    path = expanded(path)
    try:
        if str(path).endswith(".safetensors"):
            return _tensors(load_file(path))
        _check_pickled(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm saves its arguments
            content = torch.load(path, map_location="cpu", weights_only=True)
        return _tensors(_state(content))
    except Exception as error:  # a damaged file can raise any exception
        raise ValueError(
            f"weights={str(path)!r} cannot be read as a state dict: {error}"
        ) from error


def parse_weights(content: bytes, name: object) -> dict[str, Tensor]:
    """Read a state dict from the bytes of a ``.safetensors`` file.

    Args:
        content: the bytes.
        name: name of the file, for the error message.

    Raises:
        ValueError: when the bytes are damaged or have another format.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.models import parse_weights
        >>> from safetensors.torch import save
        >>> content = save({"bias": torch.ones(2)})  # bytes, such as a download
        >>> parse_weights(content, "weights.safetensors")
        {'bias': tensor([1., 1.])}
    """
    try:
        return load(content)
    except Exception as error:
        raise ValueError(f"{name} is no .safetensors file, or a damaged one: {error}") from error


def _check_pickled(path: Path) -> None:
    """Raise ValueError if ``torch.load`` could run code from the file or fill the memory."""
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < _SAFE_TORCH:
        raise ValueError(
            f"torch {torch.__version__} can run code from such a file even with "
            "weights_only=True (CVE-2025-32434): convert it to .safetensors, or use torch 2.6 or "
            "newer"
        )
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > path.stat().st_size + _SPARE:
            raise ValueError(
                f"it is compressed, and {unpacked} bytes when it is unpacked; torch.save writes "
                "uncompressed files"
            )


def _state(content: object) -> object:
    if isinstance(content, Mapping):
        for key in _STATES:
            if isinstance(content.get(key), Mapping):
                return content[key]
        return content.get("state_dict", content)
    return content


def _tensors(state: object) -> dict[str, Tensor]:
    if not isinstance(state, Mapping):
        raise ValueError(f"it holds {named_kind(state)}, not names and tensors")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name!r} is {named_kind(value)}, not a tensor")
    # n_averaged is a counter of torch's AveragedModel
    return {_unwrapped(str(k)): value for k, value in state.items() if k != "n_averaged"}


def _unwrapped(name: str) -> str:
    while name.startswith(_WRAPPERS):
        for wrapper in _WRAPPERS:
            name = name.removeprefix(wrapper)
    return name
