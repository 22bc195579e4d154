"""State of an Avalanche strategy: everything that decides its next steps."""

from __future__ import annotations

import copy
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
from avalanche.training.plugins import EWCPlugin, MASPlugin, RWalkPlugin
from torch import distributed

from avalanche_proxyfda._random import RandomState
from avalanche_proxyfda._version import __version__
from avalanche_proxyfda.checkpoint.files import CheckpointError
from avalanche_proxyfda.checkpoint.modules import load_module_state, module_state
from avalanche_proxyfda.checkpoint.objects import (
    attributes_of,
    load_attributes,
    move_beside_weights,
)
from avalanche_proxyfda.checkpoint.optimizers import load_optimizer_state, optimizer_state
from avalanche_proxyfda.checkpoint.tree import encode
from avalanche_proxyfda.checkpoint.unsaved import check_keepers
from avalanche_proxyfda.distributed.ranks import active
from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.plugins.base.features import FeaturePlugin
from avalanche_proxyfda.plugins.base.lifecycle import ReferencePlugin

_SETTINGS = ("train_mb_size", "eval_mb_size", "eval_every", "precision", "accumulate")
_COUNTS = ("skipped_updates", "extra_forwards")
_SAVED_ELSEWHERE = (
    *("model", "optimizer", "optimized_param_id", "plugins", "evaluator", "clock"),
    *("scaler", "_stop_training", "_random_state", *_SETTINGS, *_COUNTS),
)  # attributes of the strategy
_OF_A_STEP = (
    *("_criterion", "_distributed_check", "_eval_streams", "adapted_dataset", "device"),
    *("current_eval_stream", "dataloader", "experience", "is_training", "loss", "mb_output"),
    *("mbatch", "retain_graph", "train_epochs", "pending_micro_batches", "share"),
    *("_experiences", "_is_fitted"),  # of JointTraining
)  # attributes that the script gives, or that a training sets before it reads them
_BESIDE_WEIGHTS = (EWCPlugin, MASPlugin, RWalkPlugin)  # keep tensors on the weights' device
_LOGGING = ("loggers", "_metric_values")  # of the evaluator; the script makes them again


class NotSaved:
    """Marks the plugins of the checkpoints themselves, which are not saved."""


def described(strategy: Any) -> dict[str, Any]:
    """Return what must be equal to load a state: classes, settings and versions."""
    return {
        "strategy": type(strategy).__qualname__,
        "model": type(unwrap(strategy.model)).__qualname__,
        "optimizer": type(strategy.optimizer).__qualname__,
        "plugins": [type(plugin).__qualname__ for _, plugin in _plugins(strategy)],
        "settings": [getattr(plugin, "given", None) for _, plugin in _plugins(strategy)],
        "metrics": [type(metric).__qualname__ for metric in strategy.evaluator.metrics],
        **{name: getattr(strategy, name) for name in _SETTINGS if hasattr(strategy, name)},
        "avalanche_proxyfda": __version__,
        "avalanche-lib": version("avalanche-lib"),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        **({"ranks": distributed.get_world_size()} if active() else {}),
    }


def check_fit(strategy: Any, saved: Mapping[str, Any], where: object) -> None:
    """Raise CheckpointError if a saved description differs from that of ``strategy``.

    Args:
        strategy: the strategy that would load the state.
        saved: the result of :func:`described` for the saved strategy.
        where: the checkpoint, for the message.
    """
    here, saved = described(strategy), dict(saved)
    settings = here.pop("settings"), saved.pop("settings", None)
    differing = [k for k in sorted({*here, *saved}) if here.get(k) != saved.get(k)]
    if not differing:
        _check_settings(here["plugins"], *settings, where)
    else:
        gaps = "; ".join(f"{k}: {saved.get(k)!r} there, {here.get(k)!r} here" for k in differing)
        raise CheckpointError(
            f"{where} belongs to another strategy or other versions, so resuming would not be "
            f"exact ({gaps}): build the strategy as before, or delete the checkpoint to start again"
        )


def _check_settings(names: Sequence[str], here: Any, saved: Any, where: object) -> None:
    """Raise CheckpointError if a plugin was made with other arguments than the saved one."""
    for name, ours, theirs in zip(names, here, saved or here, strict=True):
        for key in sorted({*(ours or {}), *(theirs or {})}):
            one, other = (theirs or {}).get(key), (ours or {}).get(key)
            if one != other:
                raise CheckpointError(
                    f"{where} was saved with {name}({key}={one!r}), and {key}={other!r} now: make "
                    "the plugin as before, or delete the checkpoint to start again"
                )


def _plugins(strategy: Any) -> Iterator[tuple[int, Any]]:
    """Yield the plugins that are saved in ``"plugins"``, with their numbers."""
    others = (strategy.evaluator, strategy.clock)  # saved elsewhere
    return enumerate(p for p in strategy.plugins if not isinstance(p, NotSaved) and p not in others)


def _has_state(plugin: Any) -> bool:
    return all(callable(getattr(plugin, n, None)) for n in ("state_dict", "load_state_dict"))


def check_steps(strategy: Any) -> None:
    """Let the plugins of this package read the checks that earlier steps left on the device.

    Raises:
        ValueError: if a step failed its check, so that the state is not worth saving.
    """
    for _, plugin in _plugins(strategy):
        if isinstance(plugin, ReferencePlugin):
            plugin.check_steps()


def rank_state(strategy: Any) -> dict[int, Any]:
    """Return what a rank alone knows, by number of the plugin: its rows of a teacher's cache."""
    plugins = ((k, p) for k, p in _plugins(strategy) if isinstance(p, FeaturePlugin))
    return {number: plugin.rank_state() for number, plugin in plugins}


def strategy_state(strategy: Any, ranks: Sequence[dict[int, Any]] = ()) -> dict[str, Any]:
    """Return the state of model, optimizer, plugins, metrics, counters and random streams.

    Args:
        strategy: the strategy of rank 0, or of a single process.
        ranks: :func:`rank_state` of every rank, inside an experience; empty for one process.

    Raises:
        UnsavedError: for a plugin or metric whose state is no plain data.
        CheckpointError: if the optimizer holds a tensor that is no parameter of the model.
    """
    model = unwrap(strategy.model)
    scaler = getattr(strategy, "scaler", None)
    return {
        "described": described(strategy),
        "model": module_state(model),
        "optimizer": optimizer_state(strategy.optimizer, model, strategy.optimized_param_id),
        "plugins": [
            plugin.state_dict()
            if _has_state(plugin)
            else attributes_of(plugin, type(plugin).__qualname__)
            for _, plugin in _plugins(strategy)
        ],
        "evaluator": attributes_of(strategy.evaluator, "evaluator", skip=_LOGGING),
        "clock": dict(vars(strategy.clock)),
        "scaler": None if scaler is None else scaler.state_dict(),
        "own": _own_state(strategy),
        "counts": {name: getattr(strategy, name) for name in _COUNTS if hasattr(strategy, name)},
        "stopping": bool(strategy._stop_training),
        "ranks": list(ranks),
        "random": RandomState.capture(strategy.device).state_dict(),
    }


def _own_state(strategy: Any) -> dict[str, Any]:
    """Return the attributes that a strategy's class adds to those of Avalanche's template.

    Raises:
        UnsavedError: for an attribute that is no plain data, such as the buffer of ER-ACE.
    """
    elsewhere = [n for n, v in vars(strategy).items() if any(v is p for p in strategy.plugins)]
    skip = (*_SAVED_ELSEWHERE, *_OF_A_STEP, *elsewhere)
    return attributes_of(strategy, type(strategy).__qualname__, skip=skip)


def holders(strategy: Any) -> list[Any]:
    """Return the strategy and the plugins that are saved in ``"plugins"``."""
    return [strategy, *(plugin for _, plugin in _plugins(strategy))]


def check_saveable(strategy: Any) -> None:
    """Raise UnsavedError if strategy, plugin or metric holds what a checkpoint cannot hold.

    The message names the holder, such as Avalanche's Replay, whose buffer holds data sets.
    """
    check_keepers(holders(strategy))
    encode(_own_state(strategy), {}, type(strategy).__qualname__)
    for _, plugin in _plugins(strategy):
        name = type(plugin).__qualname__
        state = plugin.state_dict() if _has_state(plugin) else attributes_of(plugin, name)
        encode(state, {}, name)
    encode(attributes_of(strategy.evaluator, "evaluator", skip=_LOGGING), {}, "evaluator")


def load_strategy_state(strategy: Any, state: Mapping[str, Any], again: bool = False) -> None:
    """Load a state.

    Args:
        strategy: a strategy that was built like the saved one.
        state: the result of :func:`strategy_state`.
        again: True if the same state was loaded before the experience began. The second load
            undoes what the start of the experience has changed; it skips the plugins of this
            package, which resume by themselves.

    Raises:
        CheckpointError: if the strategy was built differently.
    """
    model = unwrap(strategy.model)
    model.to(strategy.device)
    load_module_state(model, state["model"])
    optimized = load_optimizer_state(strategy.optimizer, model, state["optimizer"])
    strategy.optimized_param_id = optimized
    vars(strategy.clock).update(state["clock"])
    own = state["ranks"][distributed.get_rank()] if state.get("ranks") and active() else {}
    for (number, plugin), plugin_state in zip(_plugins(strategy), state["plugins"], strict=True):
        if again and isinstance(plugin, ReferencePlugin):
            continue
        if number in own:
            plugin_state = FeaturePlugin.of_rank(plugin_state, own[number])
        if isinstance(plugin, ReferencePlugin):
            plugin.load_state_dict(plugin_state)  # once, so it may keep the state itself
        elif _has_state(plugin):
            plugin.load_state_dict(copy.deepcopy(plugin_state))
        else:
            load_attributes(plugin, plugin_state, strategy.device)
            if isinstance(plugin, _BESIDE_WEIGHTS):
                move_beside_weights(vars(plugin), strategy.device)
    load_attributes(strategy.evaluator, state["evaluator"], strategy.device)
    load_attributes(strategy, state.get("own", {}), strategy.device)  # older states lack it
    scaler = getattr(strategy, "scaler", None)
    if (scaler is None) != (state["scaler"] is None):
        raise CheckpointError(
            "only one of checkpoint and strategy has a gradient scaler: build the strategy with "
            "the same precision as before"
        )
    if scaler is not None:
        scaler.load_state_dict(state["scaler"])
    for name, count in state["counts"].items():
        setattr(strategy, name, count)
    strategy._stop_training = state["stopping"]
    RandomState(strategy.device, state["random"]).restore()
