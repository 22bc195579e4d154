"""The losses equal the CPU's in float64, whole and in chunks, without waits and many launches."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
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
from benchmarks.accept.cores import all_cores
from benchmarks.experiment.numerics import tf32
from benchmarks.perf.bounds import LAUNCHES
from benchmarks.perf.counting import Operations, memory_of
from benchmarks.perf.losses import FEW, LOSSES, NEIGHBORS, Case, Size

BATCHES = (16, 64, 256, 1024)
DIM = 512
_VALUE, _GRADIENT = 1e-4, 2e-3  # float32 against float64, of the largest entry
_GAP = 1e-6  # of two similarities, above what float32 rounds
_PEAK_BLOCKS = 12  # the peak of a loss in chunks, in blocks, see docs/performance.md
_PEAK_ARRAYS = 16  # the peak of another loss, in arrays [B, B] or [B, D]
_WORKSPACE = 64 * 2**20  # bytes that libraries may take for themselves
IN_BLOCKS = ("proxy-fda", "rkd")
"""Losses whose largest tensors are chunks, as large as a block of the device's memory."""
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
    """Return the sizes of batches; the largest takes a CPU minutes, and is for accelerators."""
    if setting.quick:
        return BATCHES[:1]
    return BATCHES[:-1] if setting.on_cpu else BATCHES


def _with(loss: nn.Module, inputs: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Return a loss and its gradients by name, on the device of the inputs.

    The generator of Proxy-FDA for samples that are no neighbours has no gradient at B = 16, where
    all others are neighbours.
    """
    student = inputs[0].detach().requires_grad_()
    loss.zero_grad()
    result: Any = loss(student, inputs[1])
    value = result if isinstance(result, Tensor) else result.alignment + result.generator
    value.backward()
    gradients = {"student": student.grad, **{n: p.grad for n, p in loss.named_parameters()}}
    known = {f"gradient of {n}": g.clone() for n, g in gradients.items() if g is not None}
    return {"value": value.detach(), **known}


def _farthest(ours: Mapping[str, Tensor], exact: Mapping[str, Tensor], batch: int) -> float:
    """Return the largest relative difference; a fault is a difference above its bound."""
    if ours.keys() != exact.keys():
        missing = sorted(ours.keys() ^ exact.keys())
        raise Fault(f"{missing[0]} at B = {batch} is on one device alone")
    worst = 0.0
    for name, expected in exact.items():
        difference = relative(ours[name], expected)
        most = _VALUE if name == "value" else _GRADIENT
        within(f"{name} at B = {batch}: relative difference", difference, most)
        worst = max(worst, difference)
    return worst


def _case(name: str, batch: int) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """Return a loss and its inputs on the CPU; no rounding can change a teacher's neighbours."""
    case = Case(name, Size(batch, DIM), "cpu")
    for seed in range(50):
        source = torch.Generator().manual_seed(seed)
        teacher = torch.randn(batch, DIM, generator=source)
        if _gap(teacher) > _GAP:
            return case.loss, (case.student.detach(), teacher)
    raise Fault(f"no teacher of fifty has neighbours that are {_GAP:g} nearer than others")


def _gap(teacher: Tensor) -> float:
    """Return the least gap between the last neighbour's similarity and the next one's."""
    count = min(NEIGHBORS, len(teacher) - 1)
    if count == len(teacher) - 1:
        return 1.0  # all others are neighbours
    rows = nn.functional.normalize(teacher.double())
    near = (rows @ rows.T).fill_diagonal_(-2).topk(count + 1, dim=1).values
    return float((near[:, -2] - near[:, -1]).min())


def _equals(name: str, setting: Setting) -> str:
    """Compare without TF32, which would choose other neighbours where two are almost as near."""
    worst = 0.0
    for batch in _batches(setting):
        loss, inputs = _case(name, batch)
        with tf32(False):
            ours = _with(loss.to(setting.device), _to(inputs, setting.device))
        with all_cores():
            exact = _with(loss.to("cpu").double(), _to(inputs, torch.float64))
        worst = max(worst, _farthest(ours, exact, batch))
    return f"B = {_batches(setting)[0]} to {_batches(setting)[-1]}: at most {worst:.1g} apart"


def _to(inputs: tuple[Tensor, Tensor], where: Any) -> tuple[Tensor, Tensor]:
    return inputs[0].to(where), inputs[1].to(where)


def _chunks(name: str, setting: Setting) -> str:
    """Compare the whole with chunks of seven queries, or with those of a small memory."""
    if name == "rkd":
        return _chunks_of_memory(setting)
    worst, batches = 0.0, (64,) if setting.quick else (64, 256)
    for batch in batches:
        made, inputs = _case(name, batch)
        loss: Any = made.to(setting.device)
        if not hasattr(loss, "chunk_size"):
            raise Skip("the loss has no chunks")
        inputs, results = _to(inputs, setting.device), []
        for size in (batch, 7):
            loss.chunk_size = size
            with tf32(False):
                results.append(_with(loss, inputs))
        worst = max(worst, _farthest(results[1], results[0], batch))
    return f"chunks of 7 of {' and '.join(map(str, batches))}: at most {worst:.1g} apart"


def _chunks_of_memory(setting: Setting) -> str:
    """Compare the chunks of RKD on a small accelerator with those on a large one."""
    if setting.on_cpu:
        raise Skip("a CPU has chunks of one size")
    if setting.quick:
        raise Skip("left out by --quick")
    case, results = Case("rkd", Size(256, DIM), "cpu"), []
    inputs = _to((case.student.detach(), case.teacher), setting.device)
    for memory in (80, 2):
        with memory_of(memory * 2**30), tf32(False):
            results.append(_with(case.loss.to(setting.device), inputs))
    worst = _farthest(results[1], results[0], 256)
    return f"chunks of 2 GiB and of 80 GiB at B = 256: at most {worst:.1g} apart"


def _waits(name: str, setting: Setting) -> str:
    if not can_refuse_waits(setting.device):
        raise Skip("only CUDA refuses waits; the tests count them on a simulated device")
    batches = (64,) if setting.quick else (64, 1024)
    for batch in batches:
        case = Case(name, Size(batch, DIM), str(setting.device))
        case.step()  # the first step may fit a start
        with waits_refused(setting.device):
            case.step()
    return f"forward and backward at B = {' and '.join(map(str, batches))}"


def _peak(name: str, setting: Setting) -> str:
    device = setting.device
    if peak_memory(device) is None:
        raise Skip(f"{device.type} counts no peak of memory")
    batch = _batches(setting)[-1]
    case = Case(name, Size(batch, DIM), str(device))
    with _small_chunks(name):
        case.step()
        synchronize(device)
        before = allocated_memory(device) or 0
        reset_peak_memory(device)
        case.step()
        synchronize(device)
        most = _most_memory(name, batch, device) / 2**20
    used = ((peak_memory(device) or 0) - before) / 2**20
    if used <= 0:
        raise Fault("no memory was counted")
    share = used * 2**20 / (total_memory(device) or 1)
    return within(f"MiB at B = {batch}, {share:.1%} of the device:", used, most)


def _small_chunks(name: str) -> AbstractContextManager[None]:
    """Give a loss in chunks those of 4 GiB, so that its bound is far below [B, B, D]."""
    return memory_of(4 * 2**30) if name in IN_BLOCKS else nullcontext()


def _most_memory(name: str, batch: int, device: torch.device) -> int:
    """Return the bound of the bytes of a step of a loss; [B, B, D] is above every bound."""
    if name in IN_BLOCKS:
        return _PEAK_BLOCKS * max(block_bytes(device), 4 * batch * batch) + _WORKSPACE
    return _PEAK_ARRAYS * 4 * batch * max(batch, DIM) + _WORKSPACE


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
