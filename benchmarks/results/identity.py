"""The identity of a run: a hash of its configuration, and the file name that begins with it.

Records and configurations share this module, so it imports neither pydantic nor torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from benchmarks.methods.registry import strength_text
from benchmarks.results.places import hidden, without_elsewhere

LATER_KEYS: Mapping[str, Any] = {
    "train.optimizer": "adamw",
    "train.betas": [0.9, 0.999],
    "train.momentum": 0.0,
    "train.precision": "float32",
    "train.accumulate": 1,
    "train.tf32": None,
    "train.deterministic": False,
    "train.compile": False,
    "train.pipeline": "pil",
    "train.steps": None,
    "train.lr_factors": None,
    "train.label_smoothing": 0.0,
    "head.train_template": None,
    "stream.shots": None,
    "stream.shots_seed": 0,
    "stream.shots_list": None,
    "head.prompts": "shared",
    "head.words": None,
    "train.text_lr": None,
    "train.layer_decay": None,
    "backbone.train": {"image": "full", "text": "frozen"},
    "reference_data.images": None,
    "reference_data.texts": None,
    "reference_data.count": None,
    "reference_data.batch": 64,
    "reference_data.seed": 0,
    "stream.order": None,
    "stream.train_images": None,
    "companions": {},
}
"""Keys that are younger than the first records, with their defaults in JSON's types.

Each default gives the numbers that runs gave before the key existed. The schema marks the same
keys with ``since_records=False``.
"""
LATER_PARTS = ("reference_data", "companions")
"""Parts that are younger than the first records; an identity leaves out an empty one."""
UNRESOLVED: Mapping[str, Any] = {"train.precision": "auto"}
"""Values that a run replaces before it begins; until then they stand for the default."""


def canonical(content: Any) -> bytes:
    """Return JSON in one spelling: keys sorted, no spaces, ASCII.

    Raises:
        ValueError: if ``content`` holds NaN or an infinite number.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def identifying(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that decides a run's numbers.

    ``where`` is left out, and so is each later key that has its default. A data set has one name,
    whether its place is given below ``where.data`` or as an absolute path.
    """
    return without_defaults(without_elsewhere(hidden(config)))


def without_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without ``where``, and without later keys that have their default."""
    content = {k: v for k, v in config.items() if k != "where"}
    for key, default in LATER_KEYS.items():
        part, _, name = key.partition(".")
        held = content.get(part, {})
        if name in held and held[name] in (default, UNRESOLVED.get(key, default)):
            content[part] = {k: v for k, v in held.items() if k != name}
    return {k: v for k, v in content.items() if v or k not in LATER_PARTS}


def run_id_of(config: Mapping[str, Any]) -> str:
    """Return the id of a run: the SHA-256 of the identifying part of its configuration."""
    return hashlib.sha256(canonical(identifying(config))).hexdigest()


def is_run_id(run_id: str, config: Mapping[str, Any]) -> bool:
    """Return True for the id of the run of ``config``.

    Records from before places were left out have the id of a configuration with its paths.
    """
    older = hashlib.sha256(canonical(without_defaults(config))).hexdigest()
    return run_id in (run_id_of(config), older)


def label_of(config: Mapping[str, Any], run_id: str) -> str:
    """Return a file name for a run: methods, strengths, seed, and 8 digits of its id."""
    strengths = {config["method"]: config["strength"], **config.get("companions", {})}
    parts = (
        name if strength is None else f"{name}-{strength_text(strength)}"
        for name, strength in strengths.items()
    )
    return f"{'+'.join(parts)}-seed{config['seed']}-{run_id[:8]}"
