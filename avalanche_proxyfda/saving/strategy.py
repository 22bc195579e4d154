"""The state of an Avalanche strategy: all that decides what it does next."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import torch

from avalanche_proxyfda.feature_source import unwrap
from avalanche_proxyfda.plugins.reference import ReferencePlugin
from avalanche_proxyfda.saving.files import CheckpointError
from avalanche_proxyfda.saving.modules import load_module_state, module_state
from avalanche_proxyfda.saving.objects import attributes_of, load_attributes
from avalanche_proxyfda.saving.optimizers import load_optimizer_state, optimizer_state
from avalanche_proxyfda.saving.streams import load_random_state, random_state

_SETTINGS = ("train_mb_size", "eval_mb_size", "eval_every", "precision", "accumulate")
_COUNTS = ("skipped_updates", "extra_forwards")
_LOGGING = ("loggers", "_metric_values")  # of the evaluator; made by the script, or empty


class NotSaved:
    """Marks plugins that belong to saving itself."""


def described(strategy: Any) -> dict[str, Any]:
    """What must be the same for a state to fit: kinds, settings, versions."""
    from avalanche_proxyfda import __version__

    return {
        "strategy": type(strategy).__qualname__,
        "model": type(unwrap(strategy.model)).__qualname__,
        "optimizer": type(strategy.optimizer).__qualname__,
        "plugins": [type(plugin).__qualname__ for _, plugin in _plugins(strategy)],
        "metrics": [type(metric).__qualname__ for metric in strategy.evaluator.metrics],
        **{name: getattr(strategy, name) for name in _SETTINGS if hasattr(strategy, name)},
        "avalanche_proxyfda": __version__,
        "avalanche-lib": version("avalanche-lib"),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def check_fit(strategy: Any, saved: Mapping[str, Any], where: object) -> None:
    """Raise CheckpointError unless ``saved`` describes a strategy like this one."""
    here = described(strategy)
    differing = [k for k in sorted({*here, *saved}) if here.get(k) != saved.get(k)]
    if differing:
        what = "; ".join(f"{k}: {saved.get(k)!r} there, {here.get(k)!r} here" for k in differing)
        raise CheckpointError(
            f"{where} is of another strategy or other versions, so going on would not be exact "
            f"({what}): build the strategy as it was, or delete the checkpoint to begin anew"
        )


def _plugins(strategy: Any) -> Iterator[tuple[int, Any]]:
    """The plugins that have a state of their own, and their places."""
    rest = (strategy.evaluator, strategy.clock)
    kept = [p for p in strategy.plugins if not isinstance(p, NotSaved) and p not in rest]
    return enumerate(kept)


def _has_own_state(plugin: Any) -> bool:
    return all(callable(getattr(plugin, n, None)) for n in ("state_dict", "load_state_dict"))


def strategy_state(strategy: Any) -> dict[str, Any]:
    """Model, optimizer, plugins, metrics, counters and random streams.

    Raises:
        UnsavedError: for a plugin or metric whose state is no plain data.
    """
    model = unwrap(strategy.model)
    scaler = getattr(strategy, "scaler", None)
    return {
        "described": described(strategy),
        "model": module_state(model),
        "optimizer": optimizer_state(strategy.optimizer, model, strategy.optimized_param_id),
        "plugins": [
            plugin.state_dict() if _has_own_state(plugin)
            else attributes_of(plugin, type(plugin).__qualname__)
            for _, plugin in _plugins(strategy)
        ],
        "evaluator": attributes_of(strategy.evaluator, "evaluator", skip=_LOGGING),
        "clock": dict(vars(strategy.clock)),
        "scaler": None if scaler is None else scaler.state_dict(),
        "counts": {name: getattr(strategy, name) for name in _COUNTS if hasattr(strategy, name)},
        "stopping": bool(strategy._stop_training),
        "random": random_state(strategy.device),
    }  # fmt: skip


def load_strategy_state(strategy: Any, state: Mapping[str, Any], again: bool = False) -> None:
    """Put a state in place.

    Args:
        strategy: built as the one that was saved.
        state: of :func:`strategy_state`.
        again: the same state was loaded before the experience began; what that has changed
            since is put right. The plugins of this package have done so themselves by then.

    Raises:
        CheckpointError: when the strategy was built differently.
    """
    model = unwrap(strategy.model)
    model.to(strategy.device)
    load_module_state(model, state["model"])
    optimized = load_optimizer_state(strategy.optimizer, model, state["optimizer"])
    strategy.optimized_param_id = optimized
    vars(strategy.clock).update(state["clock"])
    for (_, plugin), held in zip(_plugins(strategy), state["plugins"], strict=True):
        if again and isinstance(plugin, ReferencePlugin):
            continue
        if _has_own_state(plugin):
            plugin.load_state_dict(held)
        else:
            load_attributes(plugin, held)
    load_attributes(strategy.evaluator, state["evaluator"])
    scaler = getattr(strategy, "scaler", None)
    if (scaler is None) != (state["scaler"] is None):
        raise CheckpointError("one of checkpoint and strategy has a gradient scaler, the other not")
    if scaler is not None:
        scaler.load_state_dict(state["scaler"])
    for name, count in state["counts"].items():
        setattr(strategy, name, count)
    strategy._stop_training = state["stopping"]
    load_random_state(state["random"], strategy.device)
