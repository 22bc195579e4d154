"""Trainings: all methods, heads and precisions, compiled towers, caches, kill and resume."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from torch._dynamo.testing import CompileCounterWithBackend

from avalanche_proxyfda._accelerator import repeats_bits
from avalanche_proxyfda.checkpoint import Checkpoints
from avalanche_proxyfda.strategies.precision import Precision, check_precision
from benchmarks.accept.check import Check, Fault, Setting, Skip, within
from benchmarks.accept.toys import HEADS, Heads, finals, strategy_for, stream_for
from benchmarks.experiment.numerics import deterministic, tf32
from benchmarks.methods.plugins import arguments_of
from benchmarks.methods.registry import METHODS

PRECISIONS: tuple[Precision, ...] = ("float32", "bf16", "fp16")
WITH_CACHE = tuple(name for name in METHODS if "teacher_cache" in arguments_of(name))
CHOOSING = ("fda", "proxy-fda")
"""Methods whose neighbours may change with the last digit of a feature."""
ADAMS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "fused": {"fused": True},
    "capturable": {"capturable": True},
}


def checks() -> list[Check]:
    """Return the checks of this group."""
    made = [
        Check(f"training: {method}, {heads} heads", partial(_precisions, method, heads))
        for method in METHODS
        for heads in HEADS
    ]
    made += [
        Check(f"training: {method}, compiled tower", partial(_compiled, method))
        for method in ("fda", "ldifs")
    ]
    made += [
        Check(f"caches: {method}, {workers} workers", partial(_cache, method, workers))
        for method in WITH_CACHE
        for workers in (0, 2)
    ]
    made += [
        Check(f"resume: {name} AdamW, {method}", partial(_resume, name, method))
        for name in ADAMS
        for method in ("proxy-fda", "ldifs")
    ]
    return made


def _precisions(method: str, heads: Heads, setting: Setting) -> str:
    """Train in each precision, two micro-batches a step."""
    if setting.quick and (heads != "multi" or method not in ("finetune", "fda", "lwf")):
        raise Skip("left out by --quick")
    trained = []
    for precision in PRECISIONS:
        try:
            check_precision(precision, setting.device)
        except ValueError:
            continue
        strategy = strategy_for(
            method, heads, setting.device, precision=precision, accumulate=2, epochs=2
        )
        before = finals(strategy)
        _learn(strategy, stream_for(heads))
        after = finals(strategy)
        broken = [name for name, value in after.items() if not bool(torch.isfinite(value).all())]
        if broken:
            raise Fault(f"{precision}: {broken[0]} is not finite after training")
        moved = [n for n, value in after.items() if n in before and _moved(before[n], value)]
        if not moved:
            raise Fault(f"{precision}: no weight has changed")
        trained.append(precision)
    return ", ".join(trained)


def _moved(before: torch.Tensor, after: torch.Tensor) -> bool:
    return before.shape != after.shape or not torch.equal(before, after)


def _learn(strategy: Any, benchmark: Any, **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # toys have few classes and few samples
        for experience in benchmark.train_stream:
            strategy.train(experience, eval_streams=[], **options)


def _compiled(method: str, setting: Setting) -> str:
    """Compare trainings with and without ``torch.compile``; a plugin reads the compiled tower."""
    if setting.quick:
        raise Skip("left out by --quick")
    if setting.on_cpu and shutil.which(os.environ.get("CXX", "g++")) is None:
        raise Skip("on a CPU, torch.compile needs a C++ compiler")
    results, inductor = [], CompileCounterWithBackend("inductor")
    for compiled in (False, True):
        strategy = strategy_for(method, "multi", setting.device, adam={"eps": 1e-3}, epochs=2)
        if compiled:
            strategy.model.tower.compile(backend=inductor)
        torch.manual_seed(1)
        with tf32(False):
            _learn(strategy, stream_for("multi"))
        results.append(finals(strategy))
    torch.compiler.reset()
    if inductor.frame_count == 0:
        raise Fault("torch.compile compiled nothing of the tower")
    worst = max(
        float((v.double() - results[1][n].double()).abs().max()) for n, v in results[0].items()
    )
    return within("weights, from those of the uncompiled tower:", worst, 1e-2)


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
            adam={"eps": 1e-3},
            epochs=3,
            plugin_options={"teacher_cache": choice},
        )
        options: dict[str, Any] = {"num_workers": workers}
        if workers:
            options |= {"pin_memory": not setting.on_cpu, "persistent_workers": True}
        torch.manual_seed(1)
        with deterministic(True), tf32(False):
            _learn(strategy, stream_for("static"), **options)
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


class _BrokenOff(Exception):  # noqa: N818
    """Ends a training."""


class _BreakOff(SupervisedPlugin[Any], supports_distributed=True):  # type: ignore[call-arg]
    """Raises before one iteration of the whole training; None never does."""

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self._at = at

    def before_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Break off at the iteration."""
        if strategy.clock.train_iterations == self._at:
            raise _BrokenOff

    def state_dict(self) -> dict[str, Any]:
        """Return no state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take no state."""


def _resume(adam: str, method: str, setting: Setting) -> str:
    """Kill a training in its second experience, go on, and compare with an unbroken one."""
    if setting.on_cpu and adam == "capturable":
        raise Skip("capturable AdamW needs an accelerator")
    if setting.quick and method != "proxy-fda":
        raise Skip("left out by --quick")

    def train(folder: Path, at: int | None) -> Any:
        strategy = strategy_for(
            method,
            "static",
            setting.device,
            last=[_BreakOff(at)],
            adam={"eps": 1e-3, **ADAMS[adam]},
            epochs=2,
        )
        torch.manual_seed(1)
        checkpoints = Checkpoints(strategy, folder, every=1, minutes=None, on_signal=False)
        found = checkpoints.resume()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for experience in stream_for("static").train_stream[
                found.experiences if found else 0 :
            ]:
                strategy.train(experience, eval_streams=[])
                checkpoints.save()
        return strategy

    with tempfile.TemporaryDirectory() as folder, deterministic(True):
        whole = finals(train(Path(folder) / "whole", None))
        try:
            train(Path(folder) / "parts", 8)
        except _BrokenOff:
            pass
        else:
            raise Fault("the training was not broken off")
        rest = finals(train(Path(folder) / "parts", None))
    same = all(torch.equal(value, rest[name]) for name, value in whole.items())
    worst = max(float((v.double() - rest[n].double()).abs().max()) for n, v in whole.items())
    if same:
        return "the same bits"
    if repeats_bits(setting.device):
        raise Fault(f"resumed weights are {worst:.2g} from those of an unbroken training")
    return within("weights, from the unbroken training's:", worst, 1e-2)
