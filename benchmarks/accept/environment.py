"""The device is there, computes, and says what it can."""

from __future__ import annotations

import os

import torch

from avalanche_proxyfda._accelerator import (
    computes_bf16,
    device_name,
    has_events,
    pins_memory,
    rounds_products,
    total_memory,
)
from avalanche_proxyfda.strategies.precision import check_precision
from benchmarks.accept.check import Check, Fault, Setting, Skip, relative, within


def checks() -> list[Check]:
    """Return the checks of this group."""
    return [
        Check("environment: accelerator", _accelerator),
        Check("environment: matrix products", _products),
        Check("environment: precisions", _precisions),
    ]


def _accelerator(setting: Setting) -> str:
    if setting.on_cpu:
        raise Skip(
            "no accelerator: device, synchronisations, peak memory, pinned memory and nccl "
            "cannot be checked on a CPU"
        )
    memory = total_memory(setting.device) or 0
    if memory < 2**32:
        raise Fault(f"the device has {memory / 2**30:.1f} GiB; the checks need 4")
    facts = [f"{device_name(setting.device)}, {memory / 2**30:.0f} GiB"]
    facts.append("events" if has_events(setting.device) else "no events")
    facts.append("pinned memory" if pins_memory(setting.device) else "no pinned memory")
    space = shared_memory()
    if space is not None:
        facts.append(f"{space / 2**30:.1f} GiB of shared memory free for loaders")
    return ", ".join(facts)


def shared_memory() -> int | None:
    """Return the free bytes in which loader processes hand over batches; None if unknown."""
    try:
        about = os.statvfs("/dev/shm")
    except (AttributeError, OSError):  # Windows has no statvfs, macOS no such folder
        return None
    return about.f_bavail * about.f_frsize


def _products(setting: Setting) -> str:
    source = torch.Generator().manual_seed(0)
    left, right = (torch.randn(512, 512, generator=source) for _ in range(2))
    exact = left.double() @ right.double()
    ours = left.to(setting.device) @ right.to(setting.device)
    tf32 = rounds_products(setting.device)
    measured = within(
        "relative difference to float64", relative(ours, exact), 2e-3 if tf32 else 1e-5
    )
    return f"{measured}, TF32 {'on' if tf32 else 'off'}"


def _precisions(setting: Setting) -> str:
    able = []
    for precision in ("bf16", "fp16"):
        try:
            check_precision(precision, setting.device)  # type: ignore[arg-type]
        except ValueError:
            continue
        able.append(precision)
    both = computes_bf16(setting.device)
    if both and len(able) < 2:
        raise Fault(f"the device has units for bf16 and fp16, and torch uses {able or 'none'}")
    if not able and not setting.on_cpu:
        raise Fault("neither bf16 nor fp16 is supported, so mixed precision cannot be used")
    return f"float32, {', '.join(able)}" if able else "float32 alone"
