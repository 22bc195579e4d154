"""The processor of a run, and what makes torch choose its kernels there."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

from benchmarks.experiment.mac_processor import mac_facts
from benchmarks.results.record import Cpu

CPUINFO = Path("/proc/cpuinfo")
LIMITS = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
"""Environment variables that change the choice of kernels in torch, oneDNN, MKL and OpenBLAS."""
_INSTRUCTIONS = re.compile(
    r"sse4_[12]|fma4?|avx\w*|amx\w*|neon|asimd\w*|sve\w*|sme\d*(_\w+)?|i8mm|bf16", re.ASCII
)
"""Instruction sets for which torch, oneDNN, MKL or OpenBLAS have kernels."""
_KEYS = {
    "vendor": ("vendor_id", "CPU implementer"),
    "family": ("cpu family", "CPU architecture"),
    "model": ("model", "CPU part"),
    "stepping": ("stepping", "CPU revision"),
}
"""Keys of Linux for each part of a processor's name: on x86, and on Arm."""
_WINDOWS = re.compile(r"Family (\d+) Model (\d+) Stepping (\d+), (\w+)")


@cache
def processor() -> str:
    """Name of the processor from Linux or macOS; on other systems its kind."""
    name = (_facts(CPUINFO) or mac_facts()).get("model name")
    return name or platform.processor() or platform.machine()


def cpu(cpuinfo: Path = CPUINFO) -> Cpu:
    """Describe the processor, and what chooses the kernels on it.

    Args:
        cpuinfo: Linux's description of the processors. Without this file, ``sysctl`` of macOS
            or the identifier of Windows is read; on other systems vendor, family, model and
            stepping are None.
    """
    facts = _facts(cpuinfo) or mac_facts()
    named = {name: _first(facts, keys) for name, keys in _KEYS.items()}
    windows = _WINDOWS.search(platform.processor()) if not facts else None
    if windows:
        named = dict(zip(("family", "model", "stepping", "vendor"), windows.groups(), strict=True))
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return Cpu(
        vendor=named["vendor"],
        family=_number(named["family"]),
        model=_number(named["model"]),
        stepping=_number(named["stepping"]),
        instructions=tuple(sorted(flag for flag in set(flags) if _INSTRUCTIONS.fullmatch(flag))),
        torch_capability=torch.backends.cpu.get_cpu_capability(),
        blas=blas(torch.__config__.show()),
        onednn=bool(torch.backends.mkldnn.is_available()),  # type: ignore[no-untyped-call]
        limits={name: os.environ[name] for name in LIMITS if name in os.environ},
    )


def blas(built: str) -> str:
    """Return the name of torch's BLAS.

    Args:
        built: text of ``torch.__config__.show()``.
    """
    if torch.backends.mkl.is_available():
        return "mkl"
    named = re.search(r"BLAS_INFO=(\w+)", built)
    return named[1] if named else "unknown"


def _facts(cpuinfo: Path) -> dict[str, str]:
    """Return the keys of the first processor; nothing without the file."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _first(facts: Mapping[str, str], keys: tuple[str, ...]) -> str | None:
    return next((facts[key] for key in keys if key in facts), None)


def _number(text: str | None) -> int | None:
    """Return a number of Linux, which is decimal or begins with ``0x``; None for other text."""
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        return None
