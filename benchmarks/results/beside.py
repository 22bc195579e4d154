"""JSON files that the benchmarks write beside records: no records, and no mistake either."""

from __future__ import annotations

import json
from pathlib import Path

_TUNED = ("model.json", "model.safetensors")
_TUNED_KEYS = {"format", "weights", "backbone", "preprocessing", "tasks", "about"}
_MAX_BYTES = 16 << 20
_LOGS = ("wandb", "tensorboard", "csv")
"""Folders of loggers in the folder of a run, whose name is that of the record."""


def is_beside(path: Path) -> bool:
    """Return True for the description of a tuned model, and for a file of a run's logger.

    Args:
        path: path of a JSON file.
    """
    return _is_description(path) or _is_log(path)


def _is_description(path: Path) -> bool:
    if path.name != _TUNED[0] or not (path.is_file() and path.with_name(_TUNED[1]).is_file()):
        return False
    if path.stat().st_size > _MAX_BYTES:
        return False
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and set(content) == _TUNED_KEYS


def _is_log(path: Path) -> bool:
    return any(
        folder.name in _LOGS and folder.parent.with_name(f"{folder.parent.name}.json").is_file()
        for folder in path.parents
    )
