"""Rates of the loaders; step times of ViTs in bf16, plain and with FDA, live and cached."""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from functools import partial

from benchmarks.accept.check import Check, Setting, Skip
from benchmarks.experiment.training import StepTimer
from benchmarks.perf import input as loaders
from benchmarks.perf.arms import PLAIN, Arm, Bench, arm_of
from benchmarks.perf.options import Setting as StepSetting
from benchmarks.perf.options import workers_of
from benchmarks.perf.stepping import Stepper

MODELS = ("ViT-B-32", "ViT-B-16")
BATCHES = (64, 256)
ARMS = (PLAIN, "fda", "fda, cached", "proxy-fda", "proxy-fda, cached")
_STEPS = 20


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
    return loaders.line(loaders.measure(given))


def _step(model: str, batch: int, name: str, setting: Setting) -> str:
    if setting.on_cpu:
        raise Skip("an accelerator's time; on a CPU `perf overhead` measures the ratios")
    device = str(setting.device)
    workers = workers_of(setting.device.type)
    bench = Bench(
        StepSetting(model, batch, batches=4, precision="bf16", device=device, workers=workers)
    )
    arm: Arm = arm_of(name)
    timers: list[StepTimer] = []

    def timer() -> StepTimer:
        timers.append(StepTimer())
        return timers[-1]

    with warnings.catch_warnings(), bench.started([arm], timer) as (steppers, _):
        warnings.simplefilter("ignore")
        loaded = _timed(steppers[name], bench.warm_up)
        seconds = statistics.median(timers[0].seconds[-_STEPS:])
    return (
        f"{1e3 * seconds:.1f} ms a step, {batch / seconds:.0f} images a second, bf16; "
        f"{1e3 * loaded:.1f} ms with the loader, {workers} workers"
    )


def _timed(stepper: Stepper, warm_up: int) -> float:
    """Return the median seconds of a step with its loading, after the cache is full."""
    for _ in range(warm_up + 2):
        stepper.step()
    taken = []
    for _ in range(_STEPS):
        started = time.perf_counter()
        stepper.step()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)
