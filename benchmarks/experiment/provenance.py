"""Provenance of a record: code, command line, libraries, machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from avalanche_proxyfda import __version__
from avalanche_proxyfda._accelerator import device_count, device_name, matmul_uses_tf32
from avalanche_proxyfda.strategies.precision import DTYPES
from benchmarks.config import Config, plain
from benchmarks.experiment.processor import cpu, processor
from benchmarks.experiment.ranks import rank_count
from benchmarks.methods.registry import METHODS
from benchmarks.results.places import hidden, scrubbed
from benchmarks.results.record import Code, How, Machine

_LIBRARIES = {  # distribution: module
    "torch": "torch",
    "torchvision": "torchvision",
    "avalanche-lib": "avalanche",
    "open_clip_torch": "open_clip",
    "timm": "timm",
    "numpy": "numpy",
    "pillow": "PIL",
}


def provenance(config: Config, device: torch.device | None, jobs: int = 1) -> How:
    """Collect everything that a reader needs to repeat a run.

    Args:
        config: configuration of the run.
        device: device of the run; None if the run failed before it had one.
        jobs: number of runs at a time on the machine; timings depend on it.
    """
    own = torch.device("cpu") if device is None else device
    dtype = DTYPES.get(config.train.precision, torch.get_default_dtype())
    content = plain(config)
    return How(
        config=hidden(content),
        command=tuple(scrubbed(word, content) for word in command(sys.argv)),
        code=Code(
            **code(),
            method_version=METHODS[config.method].version,
            companion_versions={name: METHODS[name].version for name in config.companions},
        ),
        versions=versions(),
        machine=Machine(
            processor=processor(),
            cores=os.cpu_count() or 0,
            threads=torch.get_num_threads(),
            jobs=jobs,
            device=device_name(own),
            gpus=device_count(own),
            dtype=str(dtype).removeprefix("torch."),
            deterministic={
                "algorithms": torch.are_deterministic_algorithms_enabled(),
                "cudnn": torch.backends.cudnn.deterministic,
                "cudnn_benchmark": torch.backends.cudnn.benchmark,
                "tf32": matmul_uses_tf32(),
            },
            ranks=rank_count(),
            cpu=cpu(),
        ),
    )


def command(words: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command line that can be typed, from ``sys.argv``.

    >>> command(["/home/user/checkout/benchmarks/__main__.py", "run"])
    ('python', '-m', 'benchmarks', 'run')
    """
    program = Path(words[0])
    module = ("python", "-m", program.parent.name)
    first = module if program.name == "__main__.py" else (program.name,)
    return tuple(w.encode("utf-8", "backslashreplace").decode() for w in (*first, *words[1:]))


def versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries that affect numbers."""
    return {
        "python": platform.python_version(),
        "avalanche-proxyfda": __version__,
        **{name: version(name) for name, module in _LIBRARIES.items() if find_spec(module)},
    }


@cache
def code(folder: Path = Path(__file__).parent) -> dict[str, Any]:
    """Commit of the checkout around ``folder``, and True if its code was changed.

    Both are None outside a checkout.
    """

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=20,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain", "--untracked-files=all")
    changed = None
    if status is not None:  # untracked files other than Python's are no code
        changed = any(
            not line.startswith("??") or line.endswith(".py") for line in status.splitlines()
        )
    return {"commit": git("rev-parse", "HEAD"), "changed": changed}
