"""Rates of the loaders; step times of ViTs in bf16, plain and with FDA, live and cached."""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from functools import lru_cache, partial

from benchmarks.accept.check import Check, Fault, Setting, Skip
from benchmarks.accept.environment import shared_memory
from benchmarks.experiment.training import StepTimer
from benchmarks.perf import input as loaders
from benchmarks.perf.arms import PLAIN, Arm, Bench, arm_of
from benchmarks.perf.options import Setting as StepSetting
from benchmarks.perf.options import workers_of
from benchmarks.perf.stepping import Stepper

MODELS = ("ViT-B-32", "ViT-B-16")
BATCHES = (64, 256)
ARMS = (PLAIN, "fda", "fda, cached", "proxy-fda", "proxy-fda, cached")
_BATCHES = 4  # of an epoch
_STEPS = 5 * _BATCHES
_IMAGE = 3 * 224 * 224 * 4  # bytes


def checks() -> list[Check]:
    """Return the measurements of ``--times``; none of them can fail by its time."""
    steps = [
        Check(f"times: {model}, B = {batch}, {arm}", partial(_step, model, batch, arm))
        for model in MODELS
        for batch in BATCHES
        for arm in ARMS
    ]
    return [Check("times: loaders", _loaders), *steps]


def _loaders(setting: Setting) -> str:
    if setting.on_cpu:
        raise Skip("an accelerator's time; on a CPU `perf input` measures the loaders")
    device = str(setting.device)
    given = argparse.Namespace(
        images=128, rounds=3, batch=64, quality=75, device=device, quick=setting.quick
    )
    summary = loaders.measure(given)["summary"]
    rates = {name: 1e3 / times["arrived"]["median"] for name, times in summary.items()}
    listed = "; ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
    return f"images a second and core until they are on the device: {listed}"


@lru_cache(maxsize=1)
def _bench(setting: StepSetting) -> Bench:
    """Make the model and the images, which the arms of a model and a batch size share."""
    return Bench(setting)


def _workers(batch: int, kind: str) -> int:
    """Return the loader's processes; none where shared memory cannot hold their batches."""
    workers, space = workers_of(kind), shared_memory()
    waiting = min(2 * workers, 2 * _BATCHES)  # batches of two epochs at most
    return 0 if space is not None and space < waiting * batch * _IMAGE else workers


def _step(model: str, batch: int, name: str, setting: Setting) -> str:
    if setting.on_cpu:
        raise Skip("an accelerator's time; on a CPU `perf overhead` measures the ratios")
    device = str(setting.device)
    workers = _workers(batch, setting.device.type)
    bench = _bench(
        StepSetting(
            model, batch, batches=_BATCHES, precision="bf16", device=device, workers=workers
        )
    )
    arm: Arm = arm_of(name)
    timers: list[StepTimer] = []

    def timer() -> StepTimer:
        timers.append(StepTimer())
        return timers[-1]

    with warnings.catch_warnings(), bench.started([arm], timer) as (steppers, strategies):
        warnings.simplefilter("ignore")
        loaded = _timed(steppers[name], bench.warm_up)
        seconds = statistics.median(timers[0].seconds[-_STEPS:])
        hits = sum(getattr(plugin, "cache_hits", 0) for plugin in strategies[name].plugins)
    if (hits > 0) != name.endswith(", cached"):
        raise Fault(f"the teacher's cache hit {hits} times")
    few = " (shared memory is too small for workers)" if workers < workers_of(device) else ""
    return (
        f"{1e3 * seconds:.1f} ms a step, {batch / seconds:.0f} images a second, bf16; "
        f"{1e3 * loaded:.1f} ms with the loader, {workers} workers{few}"
    )


def _timed(stepper: Stepper, warm_up: int) -> float:
    """Return the mean seconds of a step with its loading, over whole epochs with a full cache.

    An epoch begins with an empty loader, so its first step waits longest; a median hides it.
    """
    for _ in range(2 * warm_up):
        stepper.step()
    started = time.perf_counter()
    for _ in range(_STEPS):
        stepper.step()
    return (time.perf_counter() - started) / _STEPS
