"""What a teacher is, as a hash: two that share it give the same answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def weights_key(module: nn.Module, places: Iterable[object]) -> str:
    """SHA-256 of a model's weights and buffers, its kinds of modules, and the places read."""
    made = hashlib.sha256(repr([str(place) for place in places]).encode())
    for name, part in module.named_modules():
        made.update(f"{name}:{type(part).__module__}.{type(part).__qualname__}\n".encode())
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        made.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        made.update(_bytes_of(value))
    return made.hexdigest()


def _bytes_of(value: Tensor) -> bytes:
    flat = value.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def data_key(names: Iterable[bytes], labels: Tensor) -> str:
    """SHA-256 of labels in their order, and of the names of some samples."""
    made = hashlib.sha256(b"".join(names))
    made.update(repr(labels.tolist()).encode())
    return made.hexdigest()


def kernels_key(device: torch.device) -> dict[str, str]:
    """What decides on the bits of a forward beside weights and images."""
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "matmul": torch.get_float32_matmul_precision(),
        "tf32": str(torch.backends.cudnn.allow_tf32),
    }
