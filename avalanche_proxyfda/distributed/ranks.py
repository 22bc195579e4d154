"""A rank's part of a batch, and sums and checks over the ranks of a group."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

from avalanche_proxyfda._random import RandomState, mixed_seed

_BUCKET = 1 << 24  # numbers in one transfer
T = TypeVar("T")


def active() -> bool:
    """Return True if this process is in a torch.distributed group, also in a group of one.

    Example:
        >>> from avalanche_proxyfda.distributed import active
        >>> active()  # a plain Python session is in no group
        False
    """
    return bool(distributed.is_available() and distributed.is_initialized())


# ---- one batch, spread over ranks -----------------------------------------------------


@dataclass(frozen=True)
class Shard:
    """This rank's part of one batch.

    Attributes:
        rank: number of this rank.
        world: number of ranks.
        total: number of rows of the whole batch.

    Example:
        >>> from avalanche_proxyfda.distributed import Shard
        >>> first, second = Shard(rank=0, world=2, total=5), Shard(rank=1, world=2, total=5)
        >>> first.rows, second.rows
        (3, 2)
        >>> first.share, second.share
        (0.6, 0.4)
    """

    rank: int
    world: int
    total: int

    @property
    def rows(self) -> int:
        """Number of rows of this rank; may be 0 if the batch has fewer rows than ranks."""
        return len(range(self.rank, self.total, self.world))

    @property
    def share(self) -> float:
        """Weight of this rank's mean in the mean over the whole batch."""
        return self.rows / self.total

    def join(self, rows: Tensor) -> Tensor:
        """Gather the rows of the whole batch on every rank, in the order of the batch.

        Every rank must compute the same loss from the joined rows. The gradients of this loss
        are those of the whole batch after :func:`sum_gradients`.

        Args:
            rows: [rows, ...] of this rank; further rows are dropped.

        Returns:
            [total, ...].
        """
        joined: Tensor = _Join.apply(rows, self)
        return joined


class _Join(torch.autograd.Function):
    """all_gather with a local backward, since every rank has the same loss and gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, shard: Shard) -> Tensor:
        ctx.shard, ctx.shape = shard, rows.shape
        padded = rows.new_zeros(-(-shard.total // shard.world), *rows.shape[1:])
        padded[: shard.rows] = rows[: shard.rows]
        padded = _served(padded)
        parts = [torch.empty_like(padded) for _ in range(shard.world)]
        distributed.all_gather(parts, padded)
        # row i of rank r is row i * world + r of the batch, so the padding comes last
        return torch.stack(parts, dim=1).flatten(0, 1)[: shard.total].to(rows.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        shard: Shard = ctx.shard
        local = gradient.new_zeros(ctx.shape)
        if shard.rows:
            # sum_gradients multiplies this rank's gradients by its share
            local[: shard.rows] = gradient[shard.rank :: shard.world] / shard.share
        return local, None


# ---- between ranks --------------------------------------------------------------------


def _devices() -> list[str]:
    """Return the types of the devices whose tensors the group can send."""
    config = distributed.get_backend_config()  # such as "cpu:gloo,xpu:xccl"
    return [part.partition(":")[0] for part in config.split(",")]


def _host() -> torch.device:
    """Return the device that can send small tensors of the host."""
    devices = _devices()
    return torch.device("cpu" if "cpu" in devices else devices[0])


def _served(tensor: Tensor) -> Tensor:
    """Return the tensor on a device that the group serves; a group of nccl alone has no CPU."""
    return tensor if tensor.device.type in _devices() else tensor.to(_host())


def is_main() -> bool:
    """Return True on rank 0 of a group, and outside of a group."""
    return not active() or distributed.get_rank() == 0


def computed_by_main(compute: Callable[[], T]) -> T:
    """Return the value that rank 0 computes; the other ranks wait for it.

    All ranks of a group must call this function. Outside of a group it calls ``compute``.

    Args:
        compute: returns plain data, and tensors on the CPU; called on rank 0 alone.

    Raises:
        RuntimeError: on the other ranks, if ``compute`` raises on rank 0; names the error.

    Example:
        >>> from avalanche_proxyfda.distributed import computed_by_main
        >>> computed_by_main(lambda: sorted({"b", "a"}))  # the same list on every rank
        ['a', 'b']
    """
    if not active():
        return compute()
    outcome: list[Any] = [None, ""]
    try:
        if is_main():
            outcome[0] = compute()
    except BaseException as error:  # an exit of rank 0 has no value either
        outcome[1] = f"{type(error).__name__}: {error}"
        raise
    finally:
        distributed.broadcast_object_list(outcome, 0, device=_host())
    if outcome[1]:
        raise RuntimeError(f"rank 0 failed in a computation for all ranks: {outcome[1]}")
    value: T = outcome[0]
    return value


def gathered_by_main(value: T) -> list[T]:
    """Return every rank's ``value`` on rank 0, in order; an empty list on the other ranks.

    All ranks of a group must call this function. Outside of a group the list is ``[value]``.

    Args:
        value: plain data, and tensors on the CPU.
    """
    if not active():
        return [value]
    values: list[Any] | None = [None] * distributed.get_world_size() if is_main() else None
    distributed.gather_object(value, values)
    return values or []


def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum of every rank's ``value``; outside of a group, ``value``.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.distributed import sum_over_ranks
        >>> sum_over_ranks(torch.tensor([1.0, 2.0]))  # outside of a group: the only rank's value
        tensor([1., 2.])
    """
    if active():
        total = _served(value.detach().clone())
        distributed.all_reduce(total)
        return total.to(value.device)
    return value


def max_over_ranks(numbers: Sequence[int]) -> list[int]:
    """Return the largest of every rank's numbers at each place; outside of a group, ``numbers``.

    All ranks of a group must call this function, with equally many numbers.
    """
    if not active():
        return list(numbers)
    largest = torch.tensor(numbers, dtype=torch.int64).to(_host())
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return [int(number) for number in largest.tolist()]


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield lists of tensors with equal dtype and device, of limited size, equal on all ranks."""
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
    """Change all tensors in place; ``change`` gets many of them at a time, as one vector."""
    for bucket in _buckets(tensors):
        flat = _served(torch.cat([tensor.reshape(-1) for tensor in bucket]))
        change(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in bucket])
        for tensor, part in zip(bucket, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


@torch.no_grad()
def sum_gradients(parameters: Iterable[nn.Parameter], share: float) -> None:
    """Replace each gradient by the sum over ranks of the gradient times ``share``.

    If no rank has a gradient of a parameter, it stays without one, so that optimizers skip it.
    If some ranks have one (a head of a task, for example), all ranks get the sum.

    Args:
        parameters: the same ones in the same order on every rank.
        share: the :attr:`Shard.share` of this rank; the shares of all ranks sum to 1.
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
    """Copy rank 0's parameters and buffers to every rank.

    Raises:
        ValueError: if the ranks' models have different tensors.
    """
    tensors = [*model.parameters(), *model.buffers()]
    shapes = [(tuple(t.shape), str(t.dtype)) for t in tensors]
    check_same("the model's tensors", repr(shapes).encode())
    _each_bucket(tensors, lambda flat: distributed.broadcast(flat, 0))


def check_same(what: str, content: bytes) -> None:
    """Raise ValueError on every rank unless all ranks have the same ``content``.

    Args:
        what: name of the content, a plural for the message.
        content: the bytes to compare.
    """
    digest = torch.frombuffer(bytearray(hashlib.sha256(content).digest()), dtype=torch.uint8)
    digest = digest.to(_host())
    first = digest.clone()
    distributed.broadcast(first, 0)
    same = torch.tensor(int(torch.equal(digest, first))).to(_host())
    distributed.all_reduce(same, distributed.ReduceOp.MIN)
    if not int(same):
        raise ValueError(
            f"{what} differ between ranks: every rank must build the same benchmark, model and "
            "plugins; set the same seed before they are built"
        )


def share_streams(device: torch.device) -> None:
    """Set every rank's random streams to rank 0's."""
    state: list[Any] = [RandomState.capture(device).state_dict()]
    distributed.broadcast_object_list(state, 0, device=_host())
    RandomState(device, state[0]).restore()


def leave_shared_streams(rank: int) -> None:
    """Seed the random streams from the shared streams and the rank; rank 0 keeps the shared."""
    if rank:
        shared = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()
        seed = mixed_seed("rank", rank, shared)
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (the stream that transforms draw from)
        random.seed(seed)


@torch.no_grad()
def average_batch_norms(model: nn.Module) -> None:
    """Average the running statistics of BatchNorm over ranks, which read different rows."""
    average_over_ranks(
        [
            buffer
            for module in model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
            for buffer in (module.running_mean, module.running_var)
            if buffer is not None
        ]
    )


def average_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over ranks; all ranks have the same ones in one order."""
    world = distributed.get_world_size()
    _each_bucket(list(tensors), lambda flat: (distributed.all_reduce(flat), flat.div_(world)))
