"""Where a record comes from: code, command line, libraries, machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from avalanche_proxyfda import __version__

_LIBRARIES = {  # distribution: module
    "torch": "torch", "torchvision": "torchvision", "avalanche-lib": "avalanche",
    "open_clip_torch": "open_clip", "timm": "timm", "numpy": "numpy", "pillow": "PIL",
}  # fmt: skip


def provenance(device: torch.device) -> dict[str, Any]:
    """What a reader needs to make the same run again."""
    cuda = device.type == "cuda"
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "code": code(),
        "versions": {
            "python": platform.python_version(),
            "avalanche-proxyfda": __version__,
            **{name: version(name) for name, module in _LIBRARIES.items() if find_spec(module)},
        },
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if cuda else "cpu",
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "peak_gpu_bytes": torch.cuda.max_memory_allocated(device) if cuda else None,
        },
    }


@cache
def code(folder: Path = Path(__file__).parent) -> dict[str, Any]:
    """Commit of the checkout that ``folder`` lies in, and whether it was changed; None outside."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changed = git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": git("rev-parse", "HEAD"),
        "changed": None if changed is None else bool(changed),
    }
