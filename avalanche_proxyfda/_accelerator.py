"""The accelerators that torch knows, under one interface; no other file names one.

CUDA, XPU (Intel), MPS (Apple) and a registered PrivateUse1 device have a module each
(``torch.cuda``, ``torch.xpu``, …). These modules differ in what they offer. A function of this
file returns None for a number that a device does not give, and raises nothing on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor

_ORDER = ("cuda", "xpu", "mps")  # the order in which "auto" takes them
_WITHOUT_MODULE = ("cpu", "meta")
_NO_MEMORY = ("MPS backend out of memory", "DefaultCPUAllocator")


def module_of(device: torch.device | str) -> Any:
    """Return torch's module of an accelerator; None for the CPU and for meta tensors.

    Example:
        >>> module_of("cuda:1") is torch.cuda, module_of("cpu")
        (True, None)
    """
    kind = torch.device(device).type
    return None if kind in _WITHOUT_MODULE else getattr(torch, kind, None)


def is_available(device: torch.device | str) -> bool:
    """Return True if ``device`` is an accelerator of which this machine has at least one."""
    if torch.device(device).type == "mps":  # older torch asks the backend, not the module
        return bool(torch.backends.mps.is_available())
    module = module_of(device)
    return module is not None and bool(module.is_available())


def best_device() -> torch.device:
    """Return the device of ``"auto"``: CUDA, else XPU, else MPS, else the CPU.

    A registered PrivateUse1 device comes before the CPU.
    """
    for kind in _ORDER:
        if is_available(kind):
            return torch.device(kind)
    if torch.accelerator.is_available():  # torch 2.6 raises where there is none
        present = torch.accelerator.current_accelerator()
        if present is not None and is_available(present):
            return torch.device(present.type)
    return torch.device("cpu")


def device_count(device: torch.device | str) -> int:
    """Return the number of devices of this type; 0 for the CPU."""
    module = module_of(device)
    return 0 if module is None else int(module.device_count())


def device_name(device: torch.device | str) -> str:
    """Return the product name of a device, or the device's type if it has no name.

    Example:
        >>> device_name("cpu")
        'cpu'
    """
    ask = getattr(module_of(device), "get_device_name", None)
    return torch.device(device).type if ask is None else str(ask(device))


def choose_device(device: torch.device) -> None:
    """Make ``device`` the present one of this process, if its type has several."""
    choose = getattr(module_of(device), "set_device", None)
    if choose is not None:
        choose(device)


def _argument(device: torch.device) -> tuple[torch.device, ...]:
    """Return the argument that names the device; MPS has a single device and takes none."""
    return () if device.type == "mps" else (device,)


# ---- memory ---------------------------------------------------------------------------


def total_memory(device: torch.device) -> int | None:
    """Return the memory of an accelerator in bytes; None for the CPU."""
    module = module_of(device)
    if module is None:
        return None
    if device.type == "mps":
        return int(module.recommended_max_memory())
    return int(module.get_device_properties(device).total_memory)


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that new tensors may take on an accelerator; None for the CPU.

    Torch keeps the memory of deleted tensors. CUDA and XPU report the size of this memory, which
    counts as free.
    """
    module = module_of(device)
    if module is None:
        return None
    if device.type == "mps":
        return int(module.recommended_max_memory() - module.driver_allocated_memory())
    free = int(module.mem_get_info(device)[0])
    if hasattr(module, "memory_reserved"):
        free += int(module.memory_reserved(device) - module.memory_allocated(device))
    return free


def allocated_memory(device: torch.device) -> int | None:
    """Return the bytes of living tensors on an accelerator; None for the CPU."""
    module = module_of(device)
    if module is None:
        return None
    if device.type == "mps":
        return int(module.current_allocated_memory())
    return int(module.memory_allocated(device))


def peak_memory(device: torch.device) -> int | None:
    """Return the largest memory of tensors since the last reset, in bytes.

    The result is None for the CPU, and for MPS, which counts no peak.
    """
    ask = getattr(module_of(device), "max_memory_allocated", None)
    return None if ask is None else int(ask(device))


def reset_peak_memory(device: torch.device) -> None:
    """Let :func:`peak_memory` count from now on; a device without a peak does nothing."""
    reset = getattr(module_of(device), "reset_peak_memory_stats", None)
    if reset is not None:
        reset(device)


def lacks_memory(error: BaseException) -> bool:
    """Return True if torch raised ``error`` because a device or the host has too little memory.

    Torch has a class for this error, which MPS and the CPU do not raise.

    Example:
        >>> lacks_memory(torch.OutOfMemoryError("CUDA out of memory."))
        True
        >>> lacks_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"))
        True
        >>> lacks_memory(RuntimeError("the sizes differ"))
        False
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


@cache
def pins_memory(device: torch.device) -> bool:
    """Return True if pinned memory of the host speeds up copies to ``device``.

    MPS shares the memory of the host, so there is nothing to pin.
    """
    if device.type == "mps" or not is_available(device):
        return False
    return device.type in _ORDER or torch.empty(1).pin_memory().is_pinned()


# ---- order of work --------------------------------------------------------------------


def synchronize(device: torch.device) -> None:
    """Wait for all work of an accelerator; the CPU has nothing to wait for."""
    module = module_of(device)
    if module is not None:
        module.synchronize(*_argument(device))


def recorded_event(device: torch.device) -> Any:
    """Record a timing event after the work that ``device`` was given; the host does not wait.

    Two events ``a`` and ``b`` have ``b.query()``, ``b.synchronize()`` and ``a.elapsed_time(b)``
    in milliseconds.

    Raises:
        ValueError: for a device without events, such as the CPU.
    """
    module = module_of(device)
    if not hasattr(module, "Event"):
        raise ValueError(f"device={device} has no events: read the clock of the host")
    event = module.Event(enable_timing=True)
    if device.type == "mps":
        event.record()
    else:
        event.record(module.current_stream(device))
    return event


def has_events(device: torch.device) -> bool:
    """Return True if :func:`recorded_event` works on ``device``."""
    return hasattr(module_of(device), "Event")


# ---- random streams -------------------------------------------------------------------


def has_random_stream(device: torch.device) -> bool:
    """Return True if this file can store and restore the random stream of ``device``."""
    return hasattr(module_of(device), "get_rng_state")


def random_state(device: torch.device) -> Tensor | None:
    """Return the state of the accelerator's random stream; None for the CPU."""
    module = module_of(device)
    if module is None:
        return None
    state: Tensor = module.get_rng_state(*_argument(device))
    return state


def set_random_state(state: Tensor, device: torch.device) -> None:
    """Set the accelerator's random stream to a result of :func:`random_state`."""
    module_of(device).set_rng_state(state.cpu(), *_argument(device))


def seed_stream(seed: int, device: torch.device) -> None:
    """Seed the random stream of an accelerator; the CPU does nothing."""
    module = module_of(device)
    if module is not None:
        with module.device(device) if hasattr(module, "device") else nullcontext():
            module.manual_seed(seed)


# ---- settings that decide bits, collectives -------------------------------------------


def computes_bf16(device: torch.device) -> bool | None:
    """Return True if a CUDA device of NVIDIA has units for bf16, from compute capability 8 on.

    The question takes no memory of the device. The result is None for other devices,
    where only a trial shows it.
    """
    if device.type != "cuda" or torch.version.hip is not None:
        return None
    return bool(torch.cuda.get_device_properties(device).major >= 8)


def rounds_products(device: torch.device) -> bool:
    """Return True if ``device`` is CUDA and rounds the inputs of float32 products to TF32."""
    return device.type == "cuda" and matmul_uses_tf32()


def repeats_bits(device: torch.device) -> bool:
    """Return True if torch's deterministic algorithms give the same bits again on ``device``."""
    return device.type in ("cpu", "cuda")


def compiles(device: torch.device) -> bool:
    """Return True if ``torch.compile`` generates code for ``device``."""
    return device.type in ("cpu", *_ORDER)


def can_refuse_waits(device: torch.device) -> bool:
    """Return True if :func:`waits_refused` works on ``device``."""
    return device.type == "cuda"


@contextmanager
def waits_refused(device: torch.device) -> Iterator[None]:
    """Let torch raise within the block where the host would wait for ``device``.

    Raises:
        ValueError: for a device that cannot refuse, which is every one but CUDA.
    """
    if not can_refuse_waits(device):
        raise ValueError(f"device={device} cannot refuse waits; CUDA alone can")
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def matmul_uses_tf32() -> bool:
    """Return True if float32 matrix products of CUDA may round their inputs to TF32.

    Torch has an older and a newer setting. Reading the older one raises once the newer one was
    used, so this function reads the newer one where torch has it.
    """
    settings: Any = torch.backends.cuda.matmul
    if hasattr(settings, "fp32_precision"):
        return bool(settings.fp32_precision == "tf32")
    return bool(settings.allow_tf32)


def convolution_uses_tf32() -> bool:
    """Return True if float32 convolutions of CUDA may round their inputs to TF32."""
    settings: Any = torch.backends.cudnn
    if hasattr(settings, "conv"):
        return bool(settings.conv.fp32_precision == "tf32")
    return bool(settings.allow_tf32)


def matmul_precision() -> str:
    """Return torch's precision of float32 matrix products: ``"highest"``, ``"high"``, ….

    These words exist for torch's older setting. If the newer setting was used, the result
    names the precision of CUDA and of the CPU, which may differ.
    """
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # torch refuses to name a mix of both settings
        backends: Any = torch.backends
        cuda, cpu = backends.cuda.matmul.fp32_precision, backends.mkldnn.matmul.fp32_precision
        return f"cuda {cuda}, cpu {cpu}"


def collectives(device: torch.device | str) -> str:
    """Return torch's backend for collectives on tensors of ``device``, such as ``"nccl"``.

    Raises:
        ValueError: if torch knows no backend for the device.

    Example:
        >>> collectives("cpu"), collectives("cuda"), collectives("xpu")
        ('gloo', 'nccl', 'xccl')
    """
    kind = torch.device(device).type
    known: dict[str, str] = dict(torch.distributed.Backend.default_device_backend_map)
    if kind not in known:
        raise ValueError(f"device={kind!r}: torch has no collectives for it; use the CPU")
    return known[kind]
