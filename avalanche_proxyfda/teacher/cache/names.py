"""Names of samples, computed from their pixels: samples with equal names have equal features."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LENGTH = 16
"""Bytes of a name: two different views do not share 128 bits of the SHA-256."""


def pixel_names(images: Tensor, tasks: Tensor | None = None) -> list[bytes]:
    """Return a name for each sample: a hash of its pixels, shape, dtype and task.

    A transform, resolution or dtype that changes the view changes the name, so the name alone
    identifies the view. The hash takes about 0.4 ms for 3 x 224 x 224 floats.

    Args:
        images: [B, ...] on the CPU.
        tasks: task label of each sample, [B], for models that depend on it; None without tasks.

    Returns:
        B names of 16 bytes.
    """
    rows = images.detach().contiguous().view(torch.uint8).reshape(len(images), -1).numpy()
    kind = f"{images.dtype} {tuple(images.shape[1:])}".encode()
    labels = [b""] * len(images) if tasks is None else [str(t).encode() for t in tasks.tolist()]
    return [_digest(kind, label, row) for row, label in zip(rows, labels, strict=True)]


def _digest(kind: bytes, label: bytes, row: NDArray[np.uint8]) -> bytes:
    digest = hashlib.sha256(b"%b|%b|" % (kind, label))
    digest.update(row.data)
    return digest.digest()[:LENGTH]


def sample_name(number: int) -> bytes:
    """Return a name for a sample by its number in the data, the same for all its views."""
    return b"%016d" % number


@lru_cache(maxsize=8)
def _odd_numbers(count: int, device: torch.device) -> Tensor:
    random = np.random.default_rng(0)
    numbers = random.integers(-(2**63), 2**63, count, dtype=np.int64) | 1
    return torch.from_numpy(numbers).to(device)


def checksums(images: Tensor) -> Tensor:
    """Return a 64-bit checksum of each sample, with the same bits on every device.

    The checksums show if the images on a device are those that were named on the CPU. They
    read the pixels once, and do not wait for the device.

    Args:
        images: [B, ...] on any device.

    Returns:
        [B] int64 on the images' device.
    """
    rows = images.detach().contiguous().view(torch.uint8).reshape(len(images), -1)
    if rows.shape[1] % 8:
        rows = torch.nn.functional.pad(rows, (0, 8 - rows.shape[1] % 8))
    words = rows.view(torch.int64)
    odd = _odd_numbers(words.shape[1], images.device)
    if images.device.type == "cpu":  # einsum allocates no product as large as the images
        return torch.from_numpy(np.einsum("ij,j->i", words.numpy(), odd.numpy()))
    return (words * odd).sum(dim=1)
