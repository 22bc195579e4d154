"""Makes torch know the second device, and reads its counts.

``device.cpp`` is the device; this module gives it the functions that ``torch.cuda`` has. A
registered device stays for the whole process, so only a process of its own imports this module.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

from tests.second_device.build import library

NAME = "second"
TOTAL = 80 << 30
"""Memory of the device that it claims to have, in bytes."""


# ---- the counts -----------------------------------------------------------------------


def _counts(lines: str) -> Counter[str]:
    pairs = (line.split("\t") for line in lines.splitlines())
    return Counter({name: int(number) for name, number in pairs})


def operations() -> Counter[str]:
    """Return the number of operations since the last reset, by name."""
    return _counts(torch.ops.second_device.operations())


def waits() -> Counter[str]:
    """Return how often the host waited for the device since the last reset, by reason."""
    return _counts(torch.ops.second_device.waits())


def reset() -> None:
    """Set both counts to zero."""
    torch.ops.second_device.reset()


@contextmanager
def waits_refused() -> Iterator[None]:
    """Raise RuntimeError inside the block where the host would wait for the device."""
    torch.ops.second_device.refuse_waits(True)
    try:
        yield
    finally:
        torch.ops.second_device.refuse_waits(False)


# ---- torch's module of the device -----------------------------------------------------


class Event:
    """A timing event. The device works at once, so an event is past when it is recorded."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.timed, self.time = enable_timing, 0.0

    def record(self, stream: object = None) -> None:
        self.time = time.perf_counter()

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        torch.ops.second_device.count_wait("synchronize an event")

    def elapsed_time(self, end: Event) -> float:
        assert self.timed and end.timed, "an event without timing has no time"
        return 1000 * (end.time - self.time)


class _Present:
    """The context of a present device, of which there is one only."""

    def __init__(self, device: object = None) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


class _Properties:
    name, total_memory = "Second device", TOTAL


def _module() -> ModuleType:
    native, made = torch.ops.second_device, ModuleType(NAME)
    functions: dict[str, Any] = {
        "Event": Event,
        "device": _Present,
        "OutOfMemoryError": torch.OutOfMemoryError,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_bf16_supported": lambda including_emulation=True: True,
        "get_amp_supported_dtype": lambda: [torch.bfloat16, torch.float16],
        "_is_in_bad_fork": lambda: False,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "current_stream": lambda device=None: None,
        "synchronize": lambda device=None: native.count_wait("synchronize"),
        "get_device_name": lambda device=None: _Properties.name,
        "get_device_properties": lambda device=None: _Properties,
        "mem_get_info": lambda device=None: (TOTAL - (10 << 30), TOTAL),
        "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 1 << 20,
        "reset_peak_memory_stats": lambda device=None: None,
        "empty_cache": lambda: None,
        "manual_seed": native.manual_seed,
        "manual_seed_all": native.manual_seed,
        "get_rng_state": lambda device=None: native.get_rng_state(),
        "get_rng_state_all": lambda: [native.get_rng_state()],
        "set_rng_state": lambda state, device=None: native.set_rng_state(state),
        "set_rng_state_all": lambda states: native.set_rng_state(states[0]),
    }
    for name, function in functions.items():
        setattr(made, name, function)
    return made


def register() -> torch.device:
    """Build the device if it is not in the cache, and register it in this process."""
    torch.ops.load_library(str(library()))
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, _module())
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)
    # a module that moves keeps its parameters' identities, as on CUDA
    torch.__future__.set_swap_module_params_on_conversion(True)
    return torch.device(NAME, 0)
