"""Records made by hand, without a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.config import RECIPES, Config, load_recipe, plain
from benchmarks.methods.registry import METHODS
from benchmarks.results.record import (
    Code,
    Cost,
    How,
    Machine,
    Moment,
    Outcome,
    PanelSet,
    Record,
    Selection,
    Stream,
)

MATRIX = ((None, None), (0.9, None), (0.7, 0.8))


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def recipe(method: str, **settings: Any) -> Config:
    keys = {name.replace("__", "."): value for name, value in settings.items()}
    return load_recipe(RECIPES / "concepts.yaml").of_method(method, keys).config


def finished(
    config: Config,
    matrix: Sequence[Sequence[float | None]] = MATRIX,
    panel: Mapping[str, tuple[float, float]] | None = None,
    validation: tuple[float, float] | None = (0.72, -0.02),
    step: float = 0.2,
    split: str = "split",
    version: int | None = None,
    machine: str = "one processor",
) -> Record:
    """A record of two experiences (or as many as the matrix has) and of a panel of two sets.

    Args:
        config: configuration of the run.
        matrix: test accuracies.
        panel: probe accuracy on the test split before and after, by set.
        validation: accuracy at the end and the panel's change, both on validation data.
        step: seconds of one training step.
        split: text whose hash identifies the split.
        version: version of the method; None takes the present one.
        machine: name of the processor.
    """
    sets = panel or {"shapes": (0.8, 0.77), "colours": (0.9, 0.89)}
    count = len(matrix) - 1
    names = tuple(f"set{k}" for k in range(count))
    change = 0.0 if validation is None else validation[1]
    probe = {
        when: {
            "test": {name: values[k] for name, values in sets.items()},
            "validation": dict.fromkeys(sets, 0.8 + k * change),
        }
        for k, when in enumerate(("before", "after"))
    }
    drift: Any = {n: {"l2": 0.2, "cka": 0.9, "neighbors": 0.6, "otdd-kmeans": None} for n in sets}
    return Record(
        schema_version=1,
        run_id=config.identity,
        status="finished",
        reason=None,
        how=How(
            plain(config),
            ("benchmarks", "run"),
            Code(
                "0" * 40,
                False,
                version or METHODS[config.method].version,
                {name: METHODS[name].version for name in config.companions},
            ),
            {"python": "3.11", "torch": "2.15.0"},
            Machine(machine, 2, 1, 1, "cpu", 0, "float32", {"algorithms": False}),
        ),
        selection=Selection("validation", 5) if config.strength is not None else Selection(),
        stream=Stream(
            "concepts",
            names,
            sha(split),
            (800,) * count,
            None if validation is None else (250,) * count,
            (400,) * count,
            "experience",
            {"stream": "concepts"},
        ),
        panel={name: PanelSet(sha(name), 500, 250, 400, {}) for name in sets},
        initial_tower_sha256=sha("tower"),
        feature_source=None,
        outcome=Outcome(
            accuracy=tuple(map(tuple, matrix)),
            avalanche_forgetting=0.2,
            validation_learnt=None if validation is None else (0.8,) * count,
            validation_last=None if validation is None else (validation[0],) * count,
            panel=(
                Moment(0, probe["before"], probe["before"], {}),
                Moment(count, probe["after"], probe["after"], drift),
            ),
            loss_terms=({"Loss": (1.0, 0.5)},) * count,
        ),
        cost=Cost(60.0, 30.0, step, 100, 6000, 100, 0, 10**9, None, 10**6, 10**6),
        resumed_from=None,
        artefacts={},
    )


def failed(config: Config, reason: str = "RuntimeError: no more memory") -> Record:
    whole = finished(config)
    return replace(
        whole,
        status="failed",
        reason=reason,
        stream=None,
        panel=None,
        initial_tower_sha256=None,
        outcome=None,
        cost=None,
    )
