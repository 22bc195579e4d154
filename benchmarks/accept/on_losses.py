"""The losses equal the CPU's in float64, whole and in chunks, without waits and many launches."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_proxyfda._accelerator import (
    allocated_memory,
    can_refuse_waits,
    peak_memory,
    reset_peak_memory,
    synchronize,
    total_memory,
    waits_refused,
)
from avalanche_proxyfda.losses.chunks import block_bytes
from benchmarks.accept.check import Check, Fault, Setting, Skip, relative, within
from benchmarks.experiment.numerics import tf32
from benchmarks.perf.bounds import LAUNCHES
from benchmarks.perf.counting import Operations, memory_of
from benchmarks.perf.losses import FEW, LOSSES, Case, Size

BATCHES = (16, 64, 256, 1024)
DIM = 512
_VALUE, _GRADIENT = 1e-4, 2e-3  # float32 against float64, of the largest entry
_PEAK_BLOCKS = 12  # the losses' peak in blocks, see docs/performance.md
NAMES = tuple(name for name in LOSSES if name != FEW)


def checks() -> list[Check]:
    """Return the checks of this group."""
    made = []
    for name in NAMES:
        made += [
            Check(f"losses: {name} equals float64", partial(_equals, name)),
            Check(f"losses: {name}, chunks equal the whole", partial(_chunks, name)),
            Check(f"losses: {name} never waits", partial(_waits, name)),
            Check(f"losses: {name}, peak memory", partial(_peak, name)),
            Check(f"losses: {name}, launches", partial(_launches, name)),
        ]
    return made


def _batches(setting: Setting) -> tuple[int, ...]:
    return BATCHES[:1] if setting.quick else BATCHES


def _with(loss: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the value and the student's gradient of a loss, on the device of the inputs."""
    student = inputs[0].detach().requires_grad_()
    result: Any = loss(student, inputs[1])
    value = result if isinstance(result, Tensor) else result.alignment + result.generator
    value.backward()
    assert student.grad is not None
    return value.detach(), student.grad


def _equals(name: str, setting: Setting) -> str:
    """Compare without TF32, which would choose other neighbours where two are almost as near."""
    worst = 0.0
    for batch in _batches(setting):
        case = Case(name, Size(batch, DIM), "cpu")
        inputs = (case.student.detach(), case.teacher)
        with tf32(False):
            on_device = _with(case.loss.to(setting.device), _to(inputs, setting.device))
        exact = _with(case.loss.to("cpu").double(), _to(inputs, torch.float64))
        value = relative(on_device[0], exact[0])
        gradient = relative(on_device[1], exact[1])
        within(f"value at B = {batch}: relative difference", value, _VALUE)
        within(f"gradient at B = {batch}: relative difference", gradient, _GRADIENT)
        worst = max(worst, gradient)
    return f"B = {_batches(setting)[0]} to {_batches(setting)[-1]}: at most {worst:.1g} apart"


def _to(inputs: tuple[Tensor, Tensor], where: Any) -> tuple[Tensor, Tensor]:
    return inputs[0].to(where), inputs[1].to(where)


def _chunks(name: str, setting: Setting) -> str:
    """Compare the whole with chunks of seven queries, or with those of a small memory."""
    batch = 64 if name != "rkd" else 256
    case = Case(name, Size(batch, DIM), "cpu")
    inputs = _to((case.student.detach(), case.teacher), setting.device)
    loss: Any = case.loss.to(setting.device)
    results, about = [], f"chunks of 7 of {batch}"
    if hasattr(loss, "chunk_size"):
        for size in (batch, 7):
            loss.chunk_size = size
            results.append(_with(loss, inputs))
    elif name == "rkd" and not setting.on_cpu:
        about = f"chunks of 2 GiB and of 80 GiB at B = {batch}"
        for memory in (80, 2):
            with memory_of(memory * 2**30):
                results.append(_with(loss, inputs))
    else:
        raise Skip("a CPU has chunks of one size" if name == "rkd" else "the loss has no chunks")
    difference = max(relative(a, b) for a, b in zip(*results, strict=True))
    return within(f"{about}: relative difference", difference, 1e-4)


def _waits(name: str, setting: Setting) -> str:
    if not can_refuse_waits(setting.device):
        raise Skip("only CUDA refuses waits; the tests count them on a simulated device")
    case = Case(name, Size(64, DIM), str(setting.device))
    case.step()  # the first step may fit a start
    with waits_refused(setting.device):
        case.step()
    return "forward and backward at B = 64"


def _peak(name: str, setting: Setting) -> str:
    device = setting.device
    if peak_memory(device) is None:
        raise Skip(f"{device.type} counts no peak of memory")
    batch = _batches(setting)[-1]
    case = Case(name, Size(batch, DIM), str(device))
    case.step()
    synchronize(device)
    before = allocated_memory(device) or 0
    reset_peak_memory(device)
    case.step()
    synchronize(device)
    used = ((peak_memory(device) or 0) - before) / 2**20
    if used <= 0:
        raise Fault("no memory was counted")
    most = _PEAK_BLOCKS * max(block_bytes(device), 4 * batch * batch) / 2**20
    share = used * 2**20 / (total_memory(device) or 1)
    return within(f"MiB at B = {batch}, {share:.1%} of the device:", used, most)


def _launches(name: str, setting: Setting) -> str:
    if setting.on_cpu:
        raise Skip("a CPU has other chunks; `perf operations` counts for a simulated device")
    batch = 16 if setting.quick else 256
    case = Case(name, Size(batch, DIM), str(setting.device))
    case.step()
    with Operations() as seen:
        case.step()
    bounds = {bound.of: bound.most for bound in LAUNCHES}
    most = bounds.get(f"{name}, B = {batch}", 600.0)
    if seen.launches == 0:
        raise Fault("no operation was counted")
    return within(f"operations at B = {batch}:", float(seen.launches), most)
