"""Cached teachers: the same weights as with teachers that compute each batch."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.accept.check import Check, Fault, Setting, Skip, within
from benchmarks.accept.on_training import EPS, learn
from benchmarks.accept.toys import finals, strategy_for, stream_for
from benchmarks.experiment.numerics import deterministic, tf32
from benchmarks.methods.plugins import arguments_of
from benchmarks.methods.registry import METHODS

WITH_CACHE = tuple(name for name in METHODS if "teacher_cache" in arguments_of(name))
CHOOSING = ("fda", "proxy-fda")
"""Methods whose neighbours may change with the last digit of a feature."""


def checks() -> list[Check]:
    """Return the checks of this group."""
    return [
        Check(f"caches: {method}, {workers} workers", partial(_cache, method, workers))
        for method in WITH_CACHE
        for workers in (0, 2)
    ]


def _cache(method: str, workers: int, setting: Setting) -> str:
    """Compare trainings with a live and a cached teacher, and count the hits.

    A cached teacher saw an image in another batch, so its features may differ in their last
    digits. AdamW with a small ``eps`` turns such a digit into a whole step where a gradient is
    almost zero.
    """
    if setting.quick and method != "fda":
        raise Skip("left out by --quick")
    results, hits = [], 0
    for choice in ("off", "exact"):
        strategy = strategy_for(
            method,
            "static",
            setting.device,
            adam=EPS,
            epochs=3,
            plugin_options={"teacher_cache": choice},
        )
        options: dict[str, Any] = {"num_workers": workers}
        if workers:
            options |= {"pin_memory": not setting.on_cpu, "persistent_workers": True}
        torch.manual_seed(1)
        with deterministic(True), tf32(False):
            learn(strategy, stream_for("static"), **options)
        results.append(finals(strategy))
        hits = max(getattr(plugin, "cache_hits", 0) for plugin in strategy.plugins)
    if hits == 0:
        raise Fault("the cached teacher never hit")
    worst = max(
        float((results[0][name].double() - value.double()).abs().max())
        for name, value in results[1].items()
    )
    most = 1e-2 if method in CHOOSING else 1e-3
    gap = within("weights, from those with a live teacher:", worst, most)
    return f"{hits} hits; {gap}"
