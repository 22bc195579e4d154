"""The work of each of two ranks on the second device. ``python -m`` runs the second rank."""

from __future__ import annotations

import copy
import os

import pytest
import torch
from torch import distributed, nn

from avalanche_proxyfda.distributed.group import process_group
from avalanche_proxyfda.distributed.ranks import (
    Shard,
    average_batch_norms,
    check_same,
    share_model,
    share_streams,
    sum_gradients,
    sum_over_ranks,
)
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
    work()
