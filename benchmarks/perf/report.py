"""Reports of measurements: a JSON with every raw timing, and a figure."""

from __future__ import annotations

import io
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.style
import torch
from matplotlib.figure import Figure

from avalanche_proxyfda._accelerator import device_name
from avalanche_proxyfda._files import write_bytes
from benchmarks.experiment.processor import processor
from benchmarks.experiment.provenance import code, versions

VERSION = 1


def machine(device: str = "cpu") -> dict[str, Any]:
    """Describe the machine, and its load before the measurement."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": processor(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device_name(device),
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
    """Make the report of a measurement.

    Args:
        kind: name of the sub-command.
        settings: settings of the measurement.
        raw: all measured numbers.
        summary: numbers for tables and figures.
        checked: values that have bounds, by name.
        about: result of :func:`machine` before the measurement.
    """
    return {
        "kind": kind,
        "version": VERSION,
        "command": command(),
        "code": code(),
        "versions": versions(),
        "machine": dict(about),
        "settings": dict(settings),
        "summary": dict(summary),
        "checked": dict(checked),
        "raw": dict(raw),
    }


def command() -> str:
    """The command line, without folders in absolute paths."""
    words = sys.argv[1:] if Path(sys.argv[0]).name == "__main__.py" else sys.argv
    shown = [Path(word).name if os.path.isabs(word) else word for word in words]
    return " ".join(["python -m benchmarks", *shown])


def write(
    folder: Path, measured: Mapping[str, Any], draw: Callable[[Mapping[str, Any]], Figure]
) -> None:
    """Write ``KIND.json`` and ``KIND.svg`` to ``folder``.

    Args:
        folder: folder to write to.
        measured: report.
        draw: draws the figure of the report.

    Raises:
        OSError: if a file cannot be written.
    """
    text = json.dumps(measured, indent=1, ensure_ascii=False) + "\n"
    salt = {"svg.hashsalt": "perf", "svg.fonttype": "path"}
    sink = io.BytesIO()
    with matplotlib.style.context(["default", salt]):  # not the user's matplotlibrc
        draw(measured).savefig(sink, format="svg", metadata={"Date": None})
    write_bytes(folder / f"{measured['kind']}.json", text.encode())
    write_bytes(folder / f"{measured['kind']}.svg", sink.getvalue())


def scale_axes(axes: Any, title: str, over: str = "B") -> None:
    """Give a panel of a figure logarithmic axes, base 2 below, with its title.

    Args:
        axes: matplotlib's axes.
        title: title of the panel.
        over: label of the lower axis.
    """
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(over)


def read(path: Path) -> dict[str, Any]:
    """Read a report.

    Raises:
        ValueError: if the file is no report of this version.
    """
    try:
        measured: dict[str, Any] = json.loads(path.read_text("utf-8"))
        version = measured["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no report of a measurement: {error}") from None
    if version != VERSION:
        raise ValueError(f"{path} has version {version}, not {VERSION}: measure again")
    return measured
