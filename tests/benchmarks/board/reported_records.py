"""Records of streams that papers report figures on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.config import RECIPES, Config, load_recipe
from benchmarks.results.published_files import shipped_tables
from benchmarks.results.record import Record
from tests.benchmarks.records import finished

TABLES = shipped_tables()
CLIP = "open_clip:ViT-B-32/openai"


def configured(recipe: str, method: str = "lp-ft", seed: int = 0, **settings: Any) -> Config:
    keys = {name.replace("__", "."): value for name, value in settings.items()}
    return load_recipe(RECIPES / recipe).of_method(method, {"seed": seed, **keys}).config


def triangle(count: int) -> list[list[float | None]]:
    """Accuracies of ``count`` experiences; a head exists once its experience is learnt."""
    return [[0.7 if j < t else None for j in range(count)] for t in range(count + 1)]


def sequence(method: str = "lp-ft", seed: int = 0, **settings: Any) -> Record:
    """A run of the recipe ``ldifs.yaml``, or with other settings."""
    config = configured("ldifs.yaml", method, seed, **settings)
    return finished(config, triangle(len(getattr(config.stream, "sets", ()))))


def imagenet_r(held: int = 0, **settings: Any) -> Record:
    """A run of Split ImageNet-R with CODA-Prompt's lists and a CLIP tower.

    Args:
        held: held-out training images of an experience.
        settings: other keys of the configuration.
    """
    keys = {"backbone__name": CLIP, "stream__split": "coda", **settings}
    config = configured("imagenet_r.yaml", **keys)
    count = getattr(config.stream, "num_experiences", 0)
    record = finished(config, triangle(count), validation=(0.7, 0.0) if held else None)
    assert record.stream is not None
    images: dict[str, Any] = {
        "train": (24_000 // count - held,) * count,
        "validation": (held,) * count if held else None,
        "test": (6_000 // count,) * count,
    }
    stream = replace(record.stream, summary={"split": "coda"}, **images)
    return replace(record, stream=stream)
