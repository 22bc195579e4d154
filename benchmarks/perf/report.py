"""What a measurement leaves: a JSON with every raw timing, and a figure."""

from __future__ import annotations

import io
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks.atomic import write_bytes
from benchmarks.provenance import code, processor, versions

VERSION = 1


def machine(device: str = "cpu") -> dict[str, Any]:
    """Where the measurement takes place, and how busy it is when it begins."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": processor(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "load_at_start": load,
    }


def report(
    kind: str,
    settings: Mapping[str, Any],
    raw: Mapping[str, Any],
    summary: Mapping[str, Any],
    checked: Mapping[str, float],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """The whole of a measurement.

    Args:
        kind: the sub-command.
        settings: what was asked for.
        raw: every number that was measured.
        summary: what tables and figures are made of.
        checked: values that have bounds.
        about: of :func:`machine`, taken before.
    """
    return {
        "kind": kind, "version": VERSION, "command": command(), "code": code(),
        "versions": versions(), "machine": dict(about), "settings": dict(settings),
        "summary": dict(summary), "checked": dict(checked), "raw": dict(raw),
    }  # fmt: skip


def command() -> str:
    """As it was typed, without the folder of the interpreter."""
    words = sys.argv[1:] if Path(sys.argv[0]).name == "__main__.py" else sys.argv
    shown = [Path(word).name if os.path.isabs(word) else word for word in words]
    return " ".join(["python -m benchmarks", *shown])


def write(
    folder: Path, made: Mapping[str, Any], draw: Callable[[Mapping[str, Any]], Figure]
) -> None:
    """``KIND.json`` and ``KIND.svg`` in ``folder``.

    Raises:
        OSError: when they cannot be written.
    """
    import matplotlib.style

    text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    salt = {"svg.hashsalt": "perf", "svg.fonttype": "path"}
    sink = io.BytesIO()
    with matplotlib.style.context(["default", salt]):  # whatever the user's matplotlibrc says
        draw(made).savefig(sink, format="svg", metadata={"Date": None})
    write_bytes(folder / f"{made['kind']}.json", text.encode())
    write_bytes(folder / f"{made['kind']}.svg", sink.getvalue())


def read(path: Path) -> dict[str, Any]:
    """A report from its file.

    Raises:
        ValueError: when it is not one of this version.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        version = found["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no report of a measurement: {error}") from None
    if version != VERSION:
        raise ValueError(f"{path} is of version {version}, and {VERSION} is read: measure again")
    return found
