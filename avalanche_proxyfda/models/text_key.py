"""A hash of everything that text features depend on."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_proxyfda._accelerator import device_name, matmul_precision

VERSION = 1
_PLAIN = (bool, int, float, str, tuple)
_hashes: weakref.WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], str]] = (
    weakref.WeakKeyDictionary()
)


def text_key(
    clip: nn.Module,
    tokens: Sequence[Tensor],
    classes: Sequence[str],
    templates: Sequence[str],
    device: torch.device,
) -> dict[str, Any]:
    """Return what the features of prompts depend on, as values of JSON.

    Args:
        clip: model with a text tower; its image tower ``visual`` is left out.
        tokens: token ids of all prompts, in batches. They stand for the tokenizer.
        classes: class names.
        templates: prompts with ``{}`` in the place of the name.
        device: device that computes the features.
    """
    ids = hashlib.sha256()
    for batch in tokens:
        _add(ids, "tokens", batch)
    return {
        "version": VERSION,
        "tower": tower_hash(clip),
        "tokens": ids.hexdigest(),
        "classes": list(classes),
        "templates": list(templates),
        "open_clip": version("open_clip_torch"),
        **_kernels(device),
    }


def name_of(key: dict[str, Any]) -> str:
    """Return a short hash of a key, for a file name."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def tower_hash(clip: nn.Module) -> str:
    """Return the SHA-256 of a CLIP model without its image tower.

    The hash covers weights, buffers, classes of modules, and their numbers and texts, such as
    the number of heads. Weights are hashed again when one was written or replaced.
    """
    digest = hashlib.sha256(_weights_hash(clip).encode())
    for name, module in clip.named_modules():
        if not _of_images(name):
            kind = f"{type(module).__module__}.{type(module).__qualname__}"
            digest.update(f"{name} {kind} {_settings(module)}\n".encode())
    return digest.hexdigest()


def _weights_hash(clip: nn.Module) -> str:
    tensors = list(_tensors(clip))
    written = tuple(part for _, t in tensors for part in (t.data_ptr(), t._version))
    known = _hashes.get(clip)
    if known is None or known[0] != written:
        digest = hashlib.sha256()
        for name, tensor in tensors:
            _add(digest, name, tensor)
        known = _hashes[clip] = written, digest.hexdigest()
    return known[1]


def text_device(clip: nn.Module) -> torch.device:
    """Return the device of the text tower; the image tower may be elsewhere."""
    return next(t.device for _, t in _tensors(clip))


def _of_images(name: str) -> bool:
    return name == "visual" or name.startswith("visual.")


def _tensors(clip: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and buffers of all modules except the image tower."""
    for name, tensor in (*clip.named_parameters(), *clip.named_buffers()):
        if not _of_images(name):
            yield name, tensor.detach()


def _settings(module: nn.Module) -> list[tuple[str, Any]]:
    """Return the numbers and texts of a module, by name; its mode is none of them."""
    own = sorted(vars(module).items())
    return [(k, v) for k, v in own if isinstance(v, _PLAIN) and k != "training"]


def _add(digest: Any, name: str, tensor: Tensor) -> None:
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
    flat = tensor.cpu().contiguous().reshape(-1)
    digest.update(flat.view(torch.uint8).numpy())


def _kernels(device: torch.device) -> dict[str, str]:
    """Return the settings that decide the bits of a forward."""
    name = f"cpu {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}"
    if device.type != "cpu":
        name = device_name(device)
    return {"torch": torch.__version__, "device": name, "matmul": matmul_precision()}
