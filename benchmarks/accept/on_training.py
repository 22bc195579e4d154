"""Trainings: all methods, heads and precisions, without waits, and compiled towers."""

from __future__ import annotations

import os
import shutil
import sysconfig
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from avalanche_proxyfda._accelerator import can_refuse_waits, compiles, pins_memory, waits_refused
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.strategies.precision import Precision, check_precision
from benchmarks.accept.check import Check, Fault, Setting, Skip, within
from benchmarks.accept.toys import (
    HEADS,
    Heads,
    distance,
    finals,
    strategy_for,
    stream_for,
    weights_of,
)
from benchmarks.experiment.numerics import tf32
from benchmarks.methods.registry import METHODS

PRECISIONS: Mapping[Precision, float] = {"float32": 0.05, "bf16": 0.15, "fp16": 0.3}
"""Precisions, and how far their weights may end from those of the CPU in float32.

The unit is the distance that training moves the weights. One update of seven that fp16 skips may
pass; more may not.
"""
EPS: Mapping[str, Any] = {"eps": 1e-3}
"""AdamW with a small ``eps`` makes a whole step of a gradient that is almost zero."""


def checks() -> list[Check]:
    """Return the checks of this group."""
    made = [
        Check(f"training: {method}, {heads} heads", partial(_precisions, method, heads))
        for method in METHODS
        for heads in HEADS
    ]
    made += [
        Check(f"training: {method}, steps never wait", partial(_waits, method))
        for method in METHODS
    ]
    made += [
        Check(f"training: {method}, compiled tower", partial(_compiled, method))
        for method in ("fda", "ldifs")
    ]
    return made


def _precisions(method: str, heads: Heads, setting: Setting) -> str:
    """Train in each precision, two micro-batches a step, and on the CPU in float32."""
    if setting.quick and (heads != "multi" or method not in ("finetune", "fda", "lwf")):
        raise Skip("left out by --quick")
    start, right = _trained(method, heads, torch.device("cpu"), "float32")
    way = distance(start, right)
    if way == 0:
        raise Fault("training moves no weight on the CPU")
    about = []
    for precision, most in PRECISIONS.items():
        try:
            check_precision(precision, setting.device)
        except ValueError:
            continue
        _, end = _trained(method, heads, setting.device, precision)
        broken = [name for name, value in end.items() if not bool(torch.isfinite(value).all())]
        if broken:
            raise Fault(f"{precision}: {broken[0]} is not finite after training")
        if end.keys() != right.keys():
            raise Fault(f"{precision}: the CPU trains other weights")
        about.append(within(precision, distance(right, end) / way, most))
    return f"from the CPU's weights, as a share of the way: {', '.join(about)}"


def _trained(
    method: str, heads: Heads, device: torch.device, precision: Precision
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the weights before and after a training."""
    strategy = strategy_for(
        method, heads, device, adam=EPS, precision=precision, accumulate=2, epochs=2
    )
    start = weights_of(strategy)
    torch.manual_seed(1)
    with tf32(False):
        learn(strategy, stream_for(heads))
    return start, weights_of(strategy)


def learn(strategy: Strategy, benchmark: Any, **options: Any) -> None:
    """Train on all experiences, without the warnings that toys cause.

    Args:
        strategy: strategy.
        benchmark: benchmark whose training stream is learned.
        options: arguments of ``train``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # toys have few classes and few samples
        for experience in benchmark.train_stream:
            strategy.train(experience, eval_streams=[], **options)


class _RefuseWaits(SupervisedPlugin[Any], supports_distributed=True):  # type: ignore[call-arg]
    """Refuses waits of the host from the second step of an epoch to the end of its last.

    Args:
        device: device of the training.

    Attributes:
        refused: steps in which a wait would have raised.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device, self._steps, self.refused = device, 0, 0
        self._open = ExitStack()

    def before_training_epoch(self, strategy: Strategy, *args: Any, **kwargs: Any) -> None:
        """Begin to count the steps."""
        self._steps = 0

    def before_forward(self, strategy: Strategy, *args: Any, **kwargs: Any) -> None:
        """Refuse from the second step on."""
        self._steps += 1
        if self._steps == 2:
            self._open.enter_context(waits_refused(self._device))
        self.refused += self._steps >= 2

    def after_training_iteration(self, strategy: Strategy, *args: Any, **kwargs: Any) -> None:
        """Allow waits after the last step: an epoch reads its metrics."""
        if self._steps == len(strategy.dataloader):
            self.close()

    def close(self) -> None:
        """Allow waits again."""
        self._open.close()


def _waits(method: str, setting: Setting) -> str:
    """Train in float32 and bf16, with a cached teacher; fp16 reads its loss scale each step."""
    if setting.quick and method not in ("finetune", "fda"):
        raise Skip("left out by --quick")
    if not can_refuse_waits(setting.device):
        raise Skip("only CUDA refuses waits; the tests count them on a simulated device")
    about = []
    for precision in ("float32", "bf16"):
        try:
            check_precision(precision, setting.device)
        except ValueError:
            continue
        look = _RefuseWaits(setting.device)
        strategy = strategy_for(
            method,
            "static",
            setting.device,
            last=[look],
            epochs=2,
            plugin_options={"teacher_cache": "exact"},
            precision=precision,
        )
        try:
            learn(strategy, stream_for("static"), pin_memory=pins_memory(setting.device))
        finally:
            look.close()
        if look.refused != 8:  # two experiences of two epochs of three steps
            raise Fault(f"waits were refused in {look.refused} steps, not in 8")
        about.append(precision)
    return f"8 steps each in {', '.join(about)}"


def _compiled(method: str, setting: Setting) -> str:
    """Compare trainings with and without ``torch.compile``; a plugin reads the compiled tower."""
    if setting.quick:
        raise Skip("left out by --quick")
    if (missing := _missing(setting)) is not None:
        raise Skip(missing)
    results, inductor = [], CompileCounterWithBackend("inductor")
    for compiled in (False, True):
        strategy = strategy_for(method, "multi", setting.device, adam=EPS, epochs=2)
        if compiled:
            strategy.model.tower.compile(backend=inductor)
        torch.manual_seed(1)
        with tf32(False):
            learn(strategy, stream_for("multi"))
        results.append(finals(strategy))
    torch.compiler.reset()
    if inductor.frame_count == 0:
        raise Fault("torch.compile compiled nothing of the tower")
    worst = max(
        float((v.double() - results[1][n].double()).abs().max()) for n, v in results[0].items()
    )
    return within("weights, from those of the uncompiled tower:", worst, 1e-2)


def _missing(setting: Setting) -> str | None:
    """Return what ``torch.compile`` needs and this machine lacks, or None."""
    if not compiles(setting.device):
        return f"torch.compile generates no code for {setting.device.type}"
    if setting.on_cpu:
        if shutil.which(os.environ.get("CXX", "g++")) is None:
            return "on a CPU, torch.compile needs a C++ compiler"
        return None
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["cc", "gcc", "clang"]
    if not any(map(shutil.which, compilers)):
        return "torch.compile needs a C compiler for its launcher of kernels"
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        return f"torch.compile needs Python's headers for its launcher of kernels: {header}"
    return None
