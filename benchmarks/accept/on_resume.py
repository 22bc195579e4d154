"""Interrupted trainings: what is resumed ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda._accelerator import repeats_bits
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.checkpoint import Checkpoints
from benchmarks.accept.check import Check, Fault, Setting, Skip, within
from benchmarks.accept.on_training import EPS
from benchmarks.accept.processes import run_within
from benchmarks.accept.toys import distance, finals, strategy_for, stream_for, weights_of
from benchmarks.experiment.numerics import deterministic

ADAMS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "fused": {"fused": True},
    "capturable": {"capturable": True},
}
END = 8
"""Iterations before the interruption; the second of two experiences begins with the seventh."""
_ROOT = Path(__file__).parents[2]
_LIMIT = 120  # seconds of a killed process


def checks() -> list[Check]:
    """Return the checks of this group."""
    made = [
        Check(f"resume: {name} AdamW, {method}", partial(_resume, name, method))
        for name in ADAMS
        for method in ("proxy-fda", "ldifs")
    ]
    return [*made, Check("resume: a killed process", _killed)]


class _BrokenOff(Exception):  # noqa: N818
    """Ends a training."""


class _BreakOff(SupervisedPlugin[Any], supports_distributed=True):  # type: ignore[call-arg]
    """Ends the training before one iteration of the whole training; None never does.

    Args:
        at: number of iterations that are made before the interruption.
        end: ends the training.
    """

    def __init__(self, at: int | None, end: Callable[[], None]) -> None:
        super().__init__()
        self._at, self._end = at, end

    def before_training_iteration(self, strategy: Strategy, *args: Any, **kwargs: Any) -> None:
        """End the training at the iteration."""
        if strategy.clock.train_iterations == self._at:
            self._end()

    def state_dict(self) -> dict[str, Any]:
        """Return no state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take no state."""


def _raise() -> None:
    raise _BrokenOff


def kill_this_process() -> None:
    """End this process as a scheduler does that waits no longer."""
    os.kill(os.getpid(), signal.SIGKILL)


def train(
    method: str,
    device: torch.device,
    folder: Path,
    at: int | None = None,
    *,
    adam: str = "plain",
    end: Callable[[], None] = _raise,
    resumes: bool = False,
) -> dict[str, Tensor]:
    """Train with a checkpoint in each step, and return the model's state.

    Args:
        method: key of :data:`~benchmarks.methods.registry.METHODS`.
        device: device of the training.
        folder: folder of the checkpoints.
        at: iterations before the training ends; None lets it finish.
        adam: key of :data:`ADAMS`.
        end: ends the training at ``at``.
        resumes: True if the folder holds a checkpoint from inside the second experience.

    Raises:
        Fault: if the checkpoint is not the expected one, or training moves no weight.
    """
    options = {**EPS, **ADAMS[adam]}
    breaker = _BreakOff(at, end)
    strategy = strategy_for(method, "static", device, last=[breaker], adam=options, epochs=2)
    start = weights_of(strategy)
    torch.manual_seed(1)
    checkpoints = Checkpoints(strategy, folder, every=1, minutes=None, on_signal=False)
    found = checkpoints.resume()
    if resumes and (found is None or found.experiences != 1 or not found.inside):
        raise Fault(f"found {found} in place of a checkpoint from inside the second experience")
    if not resumes and found is not None:
        raise Fault(f"found {found} in an empty folder")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for experience in stream_for("static").train_stream[1 if resumes else 0 :]:
            strategy.train(experience, eval_streams=[])
            checkpoints.save()
    if distance(start, weights_of(strategy)) == 0:
        raise Fault("training moved no weight")
    return finals(strategy)


def _resume(adam: str, method: str, setting: Setting) -> str:
    """Break off a training in its second experience, go on, and compare with an unbroken one."""
    if setting.on_cpu and adam == "capturable":
        raise Skip("capturable AdamW needs an accelerator")
    if setting.quick and method != "proxy-fda":
        raise Skip("left out by --quick")
    with tempfile.TemporaryDirectory() as name, deterministic(True):
        folder = Path(name)
        whole = train(method, setting.device, folder / "whole", adam=adam)
        try:
            train(method, setting.device, folder / "parts", END, adam=adam)
        except _BrokenOff:
            pass
        else:
            raise Fault("the training was not broken off")
        rest = train(method, setting.device, folder / "parts", adam=adam, resumes=True)
    return _compared(whole, rest, setting)


def _killed(setting: Setting) -> str:
    """Kill a process that trains, go on in this one, and compare with an unbroken training."""
    with tempfile.TemporaryDirectory() as name, deterministic(True):
        folder = Path(name)
        whole = train("proxy-fda", setting.device, folder / "whole")
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        words = ["-m", "benchmarks.accept.killed", str(setting.device), str(folder / "parts")]
        own = {**os.environ, "PYTHONPATH": path}
        status, said = run_within([sys.executable, *words], name, own, _LIMIT)
        if status != -signal.SIGKILL:
            tail = " ".join(said.split())[-300:]
            raise Fault(f"the process ended with status {status}: {tail}")
        rest = train("proxy-fda", setting.device, folder / "parts", resumes=True)
    return _compared(whole, rest, setting)


def _compared(whole: Mapping[str, Tensor], rest: Mapping[str, Tensor], setting: Setting) -> str:
    if all(torch.equal(value, rest[name]) for name, value in whole.items()):
        return "the same bits"
    worst = max(float((v.double() - rest[n].double()).abs().max()) for n, v in whole.items())
    if repeats_bits(setting.device):
        raise Fault(f"resumed weights are {worst:.2g} from those of an unbroken training")
    return within("weights, from the unbroken training's:", worst, 1e-2)
