"""The jobs of a recipe: its methods, at each strength, with each seed.

The jobs are planned from configurations alone, without torch.
:func:`benchmarks.execution.fitted.fitted` checks them before they run.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from benchmarks.config import Recipe, load_recipe, path_configs
from benchmarks.execution.job import Job
from benchmarks.methods.registry import METHODS, Strength, strength_of_text, with_strength
from benchmarks.results.record import Selection

Strengths = Literal["grid", "coarse", "recipe"] | Sequence[Strength]
"""The recipe's ``grid``, its ``coarse`` grid, the ``recipe``'s own value, or strengths."""


def recipe_jobs(
    recipe: Recipe,
    folder: Path,
    methods: Sequence[str | None],
    seeds: Sequence[int | None],
    strengths: Strengths,
    overrides: Mapping[str, Any],
) -> list[Job]:
    """Jobs of several methods and seeds, method by method.

    Args:
        recipe: recipe of a stream, or of one method.
        folder: folder of the records.
        methods: methods to run; None is the recipe's own.
        seeds: seeds of every setting; None is the recipe's.
        strengths: strengths of every method that has one.
        overrides: keys of the configuration to change.

    Raises:
        ValueError: when methods or seeds repeat, or a setting does not fit.
    """
    for name, values in (("methods", methods), ("seeds", seeds)):
        if len(set(values)) < len(values):
            raise ValueError(f"{name}={list(values)}: each may be given once")
    jobs = []
    for method in methods:
        for seed in seeds:
            changes = overrides if seed is None else {**overrides, "seed": seed}
            jobs += method_jobs(recipe, folder, method, strengths, changes)
    return jobs


def check_strengths(jobs: Sequence[Job], strengths: Sequence[Strength] | None) -> None:
    """Refuse strengths of the command line if no method of the jobs has one.

    Raises:
        ValueError: names the methods and the option to drop.
    """
    methods = dict.fromkeys(job.config.method for job in jobs)
    if strengths and not any(METHODS[method].knob for method in methods):
        raise ValueError(
            f"--strengths: no strength in {', '.join(methods)}; drop --strengths, or add one of "
            f"the {with_strength()}"
        )


def method_jobs(
    recipe: Recipe,
    folder: Path,
    method: str | None,
    strengths: Strengths,
    *overrides: Mapping[str, Any],
) -> list[Job]:
    """Jobs of one method, one job a strength; validation data compare several strengths.

    Args:
        recipe: see :func:`recipe_jobs`.
        folder: see :func:`recipe_jobs`.
        method: the method; None is the recipe's own.
        strengths: strengths of the method, if it has one.
        overrides: keys of the configuration to change; a later one wins.

    Raises:
        ValueError: when a setting does not fit, or the recipe has no such grid.
    """
    if method is None:
        run = load_recipe(recipe.path, *overrides).alone
    else:
        run = recipe.of_method(method, *overrides)
    source = recipe.path.name
    if METHODS[run.config.method].knob is None or strengths == "recipe":
        return [Job(run.config, folder, source=source)]
    grids = {"grid": run.grid, "coarse": run.coarse}
    grid = grids[strengths] if isinstance(strengths, str) else strengths
    if isinstance(strengths, str) and not grid:
        method = run.config.method
        usual = ", ".join(f"{value:g}" for value in METHODS[method].grid)
        raise ValueError(
            f"{source} has no {strengths} of {method}: write methods.{method}.{strengths} into the "
            f"recipe, or give strengths; the usual grid of {method} is {usual}"
        )
    selection = Selection("validation", len(grid))
    path = path_configs(run.config, grid)
    return [Job(config, folder, selection, source=source) for config in path]


def given_strength(text: str) -> Strength:
    """Return a strength of ``--strengths``.

    Raises:
        argparse.ArgumentTypeError: for a text that is neither a number nor ``auto``.
    """
    try:
        return strength_of_text(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor auto") from None
