"""The work of each of two ranks on the second device. ``python -m`` runs the second rank."""

from __future__ import annotations

import copy
import os
import sys

import pytest
import torch
from torch import distributed, nn

from avalanche_proxyfda.distributed.group import leave_group, process_group
from avalanche_proxyfda.distributed.ranks import (
    Shard,
    average_batch_norms,
    check_same,
    computed_by_main,
    max_over_ranks,
    share_model,
    share_streams,
    sum_gradients,
    sum_over_ranks,
)
from avalanche_proxyfda.teacher.cache.batch import MarkedBatch
from avalanche_proxyfda.teacher.cache.names import LENGTH
from tests.second_device import collectives, device

TOTAL = 5  # rows of a batch, so that the ranks have unequal parts


def loss_of(model: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """Return a loss in which each row meets each other row."""
    units = nn.functional.normalize(model(rows))
    return (units @ units.T).pow(3).mean()


def work() -> None:
    """Join the group of the environment, and use each function of ranks once.

    Raises:
        AssertionError: if a result differs from that of one process.
    """
    with process_group() as own:
        assert own.type == device.NAME and "cpu:gloo" in distributed.get_backend_config()
        rank, world = distributed.get_rank(), distributed.get_world_size()
        torch.manual_seed(rank)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(own)
        share_model(model)
        check_same("weights", model[0].weight.detach().cpu().numpy().tobytes())
        with pytest.raises(ValueError, match="ranks differ between ranks"):
            check_same("ranks", bytes([rank]))
        share_streams(own)
        check_same("random numbers", torch.rand(3, device=own).cpu().numpy().tobytes())
        assert float(sum_over_ranks(torch.tensor(1.0, device=own))) == world

        batch = torch.arange(3.0 * TOTAL).reshape(TOTAL, 3).sin().to(own)
        linear, whole = model[0], copy.deepcopy(model[0])
        loss_of(whole, batch).backward()
        shard = Shard(rank, world, TOTAL)
        units = nn.functional.normalize(linear(batch[rank::world]))
        joined = shard.join(units)
        (joined @ joined.T).pow(3).mean().backward()
        sum_gradients(linear.parameters(), shard.share)
        torch.testing.assert_close(linear.weight.grad.cpu(), whole.weight.grad.cpu())

        model(batch[rank::world].contiguous())
        average_batch_norms(model)
        check_same("statistics", model[1].running_mean.cpu().numpy().tobytes())
        refusals(own, world)


def without_gloo() -> None:
    """Send tensors of the CPU in a group of the device's backend alone.

    Raises:
        AssertionError: if a result differs from that of one process.
    """
    distributed.init_process_group(f"{device.NAME}:{collectives.BACKEND}")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    own = torch.device(device.NAME, 0)
    with pytest.raises(RuntimeError, match="No backend type"):
        distributed.all_reduce(torch.ones(1))
    collectives.beside = distributed.new_group(backend="gloo").boxed()

    shard = Shard(rank, world, TOTAL)
    names = [bytes([k + 1]) * LENGTH for k in range(TOTAL)]
    sums = torch.arange(TOTAL)
    images = torch.arange(3.0 * TOTAL).reshape(TOTAL, 3)
    batch = MarkedBatch([images[rank::world]], names[rank::world], sums[rank::world])
    batch[0] = images[rank::world].to(own)
    whole = shard.join(batch[0])
    chosen = batch.chosen([whole[[4, 1]]], [4, 1], shard)
    assert isinstance(chosen, MarkedBatch) and chosen.names == [names[4], names[1]]
    assert chosen.sums is not None and chosen.sums.tolist() == [4, 1]

    rows = images[rank::world].clone().requires_grad_()
    joined = shard.join(rows)
    assert joined.device.type == "cpu" and torch.equal(joined, images)
    (joined.sum() * shard.share).backward()
    assert rows.grad is not None and torch.equal(rows.grad, torch.ones_like(rows))
    assert sum_over_ranks(torch.tensor([1.0, rank])).tolist() == [world, 1.0]
    assert max_over_ranks([rank, -rank]) == [world - 1, 0]
    model = nn.Linear(2, 2, bias=False).to(own)
    nn.init.constant_(model.weight, rank)
    model.register_buffer("number", torch.tensor([rank]))  # stays on the CPU
    share_model(model)
    assert int(model.number) == 0 and float(model.weight.detach().sum()) == 0
    assert computed_by_main(lambda: "of rank 0") == "of rank 0"
    collectives.beside = None
    leave_group()


def refusals(own: torch.device, world: int) -> None:
    """Assert that NCCL's rules hold here."""
    square = torch.ones(2, 3, device=own)
    for tensor, message in (
        (square.T, "not contiguous"),
        (square.to(torch.int16), "of torch.int16"),
    ):
        with pytest.raises(RuntimeError, match=message):
            distributed.all_reduce(tensor)
    parts = [torch.ones(k + 1, device=own) for k in range(world)]
    with pytest.raises(RuntimeError, match="unequal shapes"):
        distributed.all_gather(parts, torch.ones(1, device=own))


if __name__ == "__main__":
    assert os.environ["RANK"] == "1"
    device.register()
    library = collectives.register()
    {"work": work, "without_gloo": without_gloo}[sys.argv[1]]()
