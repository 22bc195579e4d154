"""A torch.distributed group: joining it, a rank's part of a batch, what ranks tell each other."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

from avalanche_proxyfda.rng import mixed_seed

_BUCKET = 1 << 24  # numbers that travel at a time


def active() -> bool:
    """Whether this process is one of a torch.distributed group, be it of one."""
    return bool(distributed.is_available() and distributed.is_initialized())


@contextmanager
def process_group(device: str = "auto") -> Iterator[torch.device]:
    """Join the group that torchrun's environment variables describe; leave it at the end.

    Without torchrun nothing is joined, and the block runs as a single process.

    Args:
        device: ``"cpu"``, ``"cuda"``, or ``"auto"``, which takes CUDA where it is there.

    Yields:
        The device of this process: with CUDA, the one with its local rank's number.

    Raises:
        ValueError: for another device, or more ranks on a machine than it has of them.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(
            f"device={device!r}: each rank takes its own device; choose 'auto', 'cpu' or 'cuda'"
        )
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    local = os.environ.get("LOCAL_RANK")
    if local is None:
        yield torch.device("cuda" if cuda else "cpu")
        return
    if cuda:
        if int(local) >= torch.cuda.device_count():
            raise ValueError(
                f"local rank {local} has no GPU of its own, there are {torch.cuda.device_count()}: "
                "lower --nproc_per_node, or use the CPU"
            )
        torch.cuda.set_device(int(local))
    # gloo beside nccl: small things of the host travel without waiting for the GPU
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(hours=1))
    try:
        yield torch.device("cuda", int(local)) if cuda else torch.device("cpu")
    finally:
        leave_group()


_left: list[Any] = []


def leave_group() -> None:
    """Leave the group that this process is in.

    Its object stays until the next one is left: torch 2.4 waits for a gloo group's threads with
    Python's lock in its hands, and for ever when one of them needs it to end its last work.
    """
    _left[:] = [distributed.group.WORLD]
    distributed.destroy_process_group()


# ---- one batch, spread over ranks -----------------------------------------------------


@dataclass(frozen=True)
class Shard:
    """This rank's part of one batch.

    Attributes:
        rank: its number.
        world: ranks.
        total: rows of the whole batch.
    """

    rank: int
    world: int
    total: int

    @property
    def rows(self) -> int:
        """Rows of this rank; 0 where the batch has fewer rows than there are ranks."""
        return len(range(self.rank, self.total, self.world))

    @property
    def share(self) -> float:
        """Weight of this rank's mean in the mean over the whole batch."""
        return self.rows / self.total

    def join(self, rows: Tensor) -> Tensor:
        """The rows of the whole batch, in its order, on every rank.

        A function of them that every rank computes alike gets the whole batch's gradient once
        gradients are summed by :func:`sum_gradients`.

        Args:
            rows: [rows, ...] of this rank; what is beyond :attr:`rows` is left out.

        Returns:
            [total, ...].
        """
        joined: Tensor = _Join.apply(rows, self)
        return joined


class _Join(torch.autograd.Function):
    """all_gather whose backward is local: every rank's loss is the same, so is its gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, shard: Shard) -> Tensor:
        ctx.shard, ctx.shape = shard, rows.shape
        own = rows.new_zeros(-(-shard.total // shard.world), *rows.shape[1:])
        own[: shard.rows] = rows[: shard.rows]
        parts = [torch.empty_like(own) for _ in range(shard.world)]
        distributed.all_gather(parts, own)
        # row i of rank r is row i * world + r of the batch, so what was padded comes last
        return torch.stack(parts, dim=1).flatten(0, 1)[: shard.total]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        shard: Shard = ctx.shard
        own = gradient.new_zeros(ctx.shape)
        if shard.rows:
            # undoes the weight that this rank's gradients are summed with
            own[: shard.rows] = gradient[shard.rank :: shard.world] / shard.share
        return own, None


# ---- what ranks tell each other -------------------------------------------------------


def _host() -> torch.device:
    """Where small tensors of the host can travel from."""
    on_cpu = "cpu:" in distributed.get_backend_config()
    return torch.device("cpu" if on_cpu else "cuda")


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of every rank's ``value``; itself outside of a group."""
    if active():
        value = value.detach().clone()
        distributed.all_reduce(value)
    return value


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """``tensors`` by dtype and device, in lists of bounded size; the same on every rank."""
    kinds: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for kind in kinds.values():
        bucket: list[Tensor] = []
        for tensor in kind:
            if bucket and sum(t.numel() for t in bucket) + tensor.numel() > _BUCKET:
                yield bucket
                bucket = []
            bucket.append(tensor)
        yield bucket


def _each_bucket(tensors: Iterable[Tensor], change: Callable[[Tensor], object]) -> None:
    """Let ``change`` change all tensors in place, many of them at a time, as one vector."""
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        change(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in bucket])
        for tensor, part in zip(bucket, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


@torch.no_grad()
def sum_gradients(parameters: Iterable[nn.Parameter], share: float) -> None:
    """Replace each gradient by the sum over ranks of ``share`` times it.

    A parameter that no rank has a gradient of keeps none, so that an optimizer leaves it alone;
    one that some ranks have a gradient of (a head of a task, say) gets it on all.

    Args:
        parameters: the same ones in the same order on every rank.
        share: see :class:`Shard`; the shares of all ranks sum to 1.
    """
    trained = [p for p in parameters if p.requires_grad]
    present = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32).to(_host())
    distributed.all_reduce(present, distributed.ReduceOp.MAX)
    gradients = []
    for parameter, there in zip(trained, present.tolist(), strict=True):
        if there:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    _each_bucket(gradients, lambda flat: distributed.all_reduce(flat.mul_(share)))


@torch.no_grad()
def share_model(model: nn.Module) -> None:
    """Give every rank rank 0's parameters and buffers.

    Raises:
        ValueError: when the ranks' models do not have the same tensors.
    """
    tensors = [*model.parameters(), *model.buffers()]
    shapes = [(tuple(t.shape), str(t.dtype)) for t in tensors]
    check_same("the model's tensors", repr(shapes).encode())
    _each_bucket(tensors, lambda flat: distributed.broadcast(flat, 0))


def check_same(what: str, content: bytes) -> None:
    """Raise ValueError, on every rank, unless all ranks have the same ``content``."""
    digest = hashlib.sha256(content).digest()
    own = torch.frombuffer(bytearray(digest), dtype=torch.uint8).to(_host())
    first = own.clone()
    distributed.broadcast(first, 0)
    same = torch.tensor(int(torch.equal(own, first))).to(_host())
    distributed.all_reduce(same, distributed.ReduceOp.MIN)
    if not int(same):
        raise ValueError(
            f"{what} differ between ranks: every rank must build the same benchmark, model and "
            "plugins; set the same seed before they are built"
        )


def share_streams(device: torch.device) -> None:
    """Put every rank's random streams where rank 0's are."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    state: list[Any] = [torch.get_rng_state(), np.random.get_state(), random.getstate(), cuda]  # noqa: NPY002
    distributed.broadcast_object_list(state, 0, device=_host())
    torch.set_rng_state(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    random.setstate(state[2])
    if state[3] is not None:
        torch.cuda.set_rng_state(state[3], device)


def leave_shared_streams(rank: int) -> None:
    """Go on with streams that follow from the shared ones and the rank; rank 0 keeps them."""
    if rank:
        shared = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()
        seed = mixed_seed("rank", rank, shared)
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (the stream that transforms draw from)
        random.seed(seed)


@torch.no_grad()
def average_batch_norms(model: nn.Module) -> None:
    """Average the running statistics, each of which has seen a part of the batches."""
    statistics = [
        buffer
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
        for buffer in (module.running_mean, module.running_var)
        if buffer is not None
    ]
    world = distributed.get_world_size()
    _each_bucket(statistics, lambda flat: (distributed.all_reduce(flat), flat.div_(world)))
