"""Hashes of everything that a teacher's values depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from avalanche_proxyfda._accelerator import convolution_uses_tf32, device_name, matmul_precision


def weights_key(module: nn.Module, places: Iterable[object]) -> str:
    """Return the SHA-256 of a model's weights, buffers, classes of modules, and places."""
    digest = hashlib.sha256(repr([str(place) for place in places]).encode())
    for name, part in module.named_modules():
        digest.update(f"{name}:{type(part).__module__}.{type(part).__qualname__}\n".encode())
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(_bytes_of(value))
    return digest.hexdigest()


def _bytes_of(value: Tensor) -> bytes:
    flat = value.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def data_key(names: Iterable[bytes], labels: Tensor) -> str:
    """Return the SHA-256 of a data set's labels [N] in their order, and of some names."""
    digest = hashlib.sha256(b"".join(names))
    digest.update(repr(labels.tolist()).encode())
    return digest.hexdigest()


def kernels_key(device: torch.device) -> dict[str, str]:
    """Return the settings that decide the bits of a forward of given weights and images."""
    return {
        "torch": torch.__version__,
        "device": device_name(device),
        "matmul": matmul_precision(),
        "tf32": str(convolution_uses_tf32()),
    }
