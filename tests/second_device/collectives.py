"""Collectives on tensors of the second device: through gloo, under the rules of NCCL.

NCCL takes tensors of the device alone, dense and of the dtypes it knows, and the parts of a
gather have one shape and dtype. Gloo takes more, so a program that passes on the CPU may fail
on GPUs.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, distributed

from tests.second_device.device import NAME

BACKEND = "second_rules"
beside: Any = None
"""A boxed group of gloo, which sends the copies if the group itself has no gloo."""
_DTYPES = {
    *(torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
}


def _checked(*tensors: Tensor) -> list[Tensor]:
    """Return copies on the host of tensors that NCCL would take; raise RuntimeError otherwise."""
    for tensor in tensors:
        if tensor.device.type != NAME:
            raise RuntimeError(f"a collective of the device got a tensor on {tensor.device}")
        if not tensor.is_contiguous():
            raise RuntimeError("a collective of the device got a tensor that is not contiguous")
        if tensor.dtype not in _DTYPES:
            raise RuntimeError(f"a collective of the device got a tensor of {tensor.dtype}")
    if len({(tensor.shape, tensor.dtype) for tensor in tensors}) > 1:
        raise RuntimeError("a collective of the device got tensors of unequal shapes or dtypes")
    return [tensor.cpu() for tensor in tensors]


def _write(tensors: list[Tensor], hosts: list[Tensor]) -> None:
    for tensor, host in zip(tensors, hosts, strict=True):
        tensor.copy_(host)


def _allreduce(tensors: list[Tensor], group: Any, *rest: Any) -> Any:
    hosts = _checked(*tensors)
    _, work = torch.ops.c10d.allreduce_(hosts, group if beside is None else beside, *rest)
    work.wait()
    _write(tensors, hosts)
    return tensors, work


def _broadcast(tensors: list[Tensor], group: Any, *rest: Any) -> Any:
    hosts = _checked(*tensors)
    _, work = torch.ops.c10d.broadcast_(hosts, group if beside is None else beside, *rest)
    work.wait()
    _write(tensors, hosts)
    return tensors, work


def _allgather(outputs: list[list[Tensor]], inputs: list[Tensor], group: Any, *rest: Any) -> Any:
    hosts, given = [], []
    for parts, one in zip(outputs, inputs, strict=True):
        *copies, own = _checked(*parts, one)
        hosts.append(copies)
        given.append(own)
    _, work = torch.ops.c10d.allgather_(hosts, given, group if beside is None else beside, *rest)
    work.wait()
    for parts, copies in zip(outputs, hosts, strict=True):
        _write(parts, copies)
    return outputs, work


def register() -> torch.library.Library:
    """Give the second device a backend; the result must stay alive as long as it is used."""

    def gloo(store: Any, rank: int, size: int, timeout: Any) -> Any:
        return distributed.ProcessGroupGloo(store, rank, size, timeout)

    distributed.Backend.register_backend(BACKEND, gloo, devices=[NAME])
    library = torch.library.Library("c10d", "IMPL")
    for name, function in (
        ("allreduce_", _allreduce),
        ("broadcast_", _broadcast),
        ("allgather_", _allgather),
    ):
        with warnings.catch_warnings():  # torch warns that it has a kernel of these already
            warnings.filterwarnings("ignore", "Warning only once for all operators")
            library.impl(name, function, "PrivateUse1")
    return library
