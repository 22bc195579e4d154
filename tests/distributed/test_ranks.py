"""The parts: joining rows with gradient, summing gradients, slicing batches."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda.distributed.loaders import RankSlices
from avalanche_proxyfda.distributed.ranks import Shard, sum_gradients
from tests.distributed.pool import Pool


def related(weights: Tensor, rows: Tensor, shard: Shard | None) -> Tensor:
    """A value that every pair of rows enters."""
    features = rows @ weights
    if shard is not None:
        features = shard.join(features)
    return torch.cdist(features, features + 1).square().log1p().mean() * features[-1, 0]


def gradient(total: int) -> tuple[Tensor, Tensor, Tensor]:
    """Value, gradient and joined rows of a batch of ``total`` rows, on one rank."""
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    rows = torch.randn(total, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    shard = Shard(rank, world, total)
    own = rows[rank::world] if shard.rows else rows[-1:]
    weights = nn.Parameter(torch.ones(5, 3, dtype=torch.float64).cumsum(0).sin())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = related(weights, own, shard)
        value.backward()
    sum_gradients([weights], shard.share)
    assert weights.grad is not None
    return value.detach(), weights.grad, shard.join(own)


@pytest.mark.parametrize("total", [2, 6, 7, 8])
def test_the_gradient_of_joined_rows_is_the_whole_batchs(pool: Pool, total: int) -> None:
    rows = torch.randn(total, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = nn.Parameter(torch.ones(5, 3, dtype=torch.float64).cumsum(0).sin())
    value = related(weights, rows, None)
    value.backward()
    for found, summed, joined in pool.run(gradient, total, ranks=3):
        torch.testing.assert_close(found, value.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(summed, weights.grad, rtol=1e-10, atol=1e-12)
        assert torch.equal(joined, rows)


def unlike() -> list[Any]:
    """Gradients of parameters that both ranks, one rank, or none has one of."""
    rank = torch.distributed.get_rank()
    made = [nn.Parameter(torch.zeros(3)) for _ in range(3)] + [
        nn.Parameter(torch.zeros(2, dtype=torch.float64))
    ]
    made[0].grad = torch.full((3,), 1.0 + rank)
    if rank == 1:
        made[1].grad = torch.full((3,), 8.0)
    made[3].grad = torch.full((2,), 4.0, dtype=torch.float64)
    sum_gradients(made, (0.25, 0.75)[rank])
    return [None if p.grad is None else p.grad.tolist() for p in made]


def test_gradients_are_summed_and_what_nobody_has_stays_absent(pool: Pool) -> None:
    for found in pool.run(unlike):
        assert found == [[1.75] * 3, [6.0] * 3, None, [4.0, 4.0]]


def test_slices_are_a_partition_of_each_batch() -> None:
    batches = [[5, 3, 8, 1, 9], [2, 7], [4]]
    slices = [RankSlices(batches, rank, 3) for rank in range(3)]
    found = [list(each) for each in slices]
    assert found == [[[5, 1], [2], [4]], [[3, 9], [7], [4]], [[8], [7], [4]]]
    assert all(each.totals == [5, 2, 1] and len(each) == 3 for each in slices)
    for number, total in enumerate((5, 2, 1)):
        shards = [Shard(rank, 3, total) for rank in range(3)]
        own = [f[number][: s.rows] for f, s in zip(found, shards, strict=True)]
        assert sorted(index for part in own for index in part) == sorted(batches[number])
        assert sum(shard.share for shard in shards) == pytest.approx(1)
