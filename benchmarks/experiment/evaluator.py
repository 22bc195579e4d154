"""Values that a run reads from Avalanche's evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.results.record import finite_or_none


def accuracy_on(experience: int, results: Mapping[str, Any]) -> float:
    """Accuracy on one experience.

    Args:
        experience: number of the experience, from 0.
        results: metrics by name, as ``strategy.eval`` returns them.
    """
    end = f"Exp{experience:03d}"
    return next(
        float(value)
        for name, value in results.items()
        if name.startswith("Top1_Acc_Exp") and name.endswith(end)
    )


def stream_forgetting(results: Mapping[str, Any]) -> float:
    """Avalanche's own forgetting of the stream; 0 after a single experience."""
    return next(
        float(value) for name, value in results.items() if name.startswith("StreamForgetting")
    )


def epoch_counts(evaluator: Any) -> dict[str, int]:
    """Number of values that each epoch metric has so far, by name."""
    metrics = evaluator.get_all_metrics()
    return {name: len(values) for name, (_, values) in metrics.items() if "_Epoch/" in name}


def terms_since(evaluator: Any, counts: Mapping[str, int]) -> dict[str, tuple[float | None, ...]]:
    """Loss terms of the epochs since ``counts`` was taken, by name, one entry an epoch.

    Hit rates of a cache are left out, and so is ``Task_Loss``, which is ``Loss`` without the
    terms.

    Args:
        evaluator: evaluator of the strategy.
        counts: values that :func:`epoch_counts` gave before.
    """
    terms = {}
    for name, (_, values) in evaluator.get_all_metrics().items():
        new = values[counts.get(name, 0) :]
        left_out = "_cache_hit_rate_" in name or name.startswith("Task_Loss_")
        if "_Epoch/" in name and not left_out and new:
            short = name.partition("/")[0].removesuffix("_Epoch")
            terms[short] = tuple(finite_or_none(float(value)) for value in new)
    return terms
