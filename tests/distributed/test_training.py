"""Two and three ranks against one process: losses, gradients, weights, metrics."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from avalanche.training.plugins import ReplayPlugin
from torch import Tensor

from avalanche_proxyfda.distributed import Shard
from avalanche_proxyfda.plugins.base.auto_weight import drifted
from tests.distributed.pool import Pool
from tests.distributed.work import AUTOMATIC, METHODS, Draws, learn


def close(found: Any, expected: Any, tolerance: float) -> None:
    """Nested results agree, keys and lengths included."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            close(found[key], expected[key], tolerance)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            close(a, b, tolerance)
    else:
        torch.testing.assert_close(
            torch.as_tensor(found), torch.as_tensor(expected), rtol=tolerance, atol=tolerance
        )


def alike(ranks: list[dict[str, Any]], single: dict[str, Any], tolerance: float = 1e-9) -> None:
    """Every rank has what the single process has, and all ranks have the same weights."""
    for rank in ranks:
        for name in ("losses", "gradients", "weights", "own", "metrics"):
            exact = name in ("gradients", "weights")  # Avalanche keeps losses in float32
            close(rank[name], single[name], tolerance if exact else 1e-5)
        for name, value in rank["weights"].items():
            assert torch.equal(value, ranks[0]["weights"][name]), name
        for name, value in rank["own"].items():
            assert torch.equal(value, ranks[0]["own"][name]), name


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_learn_what_one_process_learns(pool: Pool, method: str) -> None:
    single = learn(method, plain=True)
    assert len(single["losses"]) == 2 * 2 * 3 and single["weights"]
    alike(pool.run(learn, method), single)


@pytest.mark.parametrize("stream", ["classic", "modern"])
def test_the_number_of_ranks_does_not_matter(pool: Pool, stream: str) -> None:
    """Batches of 25, 25 and 10 rows; with three ranks all of them are uneven."""
    single = learn("all", stream=stream, adam=True)
    for ranks in (1, 2, 3):
        alike(pool.run(learn, "all", ranks=ranks, stream=stream, adam=True), single)


@pytest.mark.parametrize("method", AUTOMATIC)
def test_automatic_weights_are_those_of_one_process(pool: Pool, method: str) -> None:
    """Level, unit, task's loss and multipliers are those of the whole batch.

    Avalanche's loss is float32, and limits the share of RIFT's and LwF's terms here.
    """
    single = learn(method, plain=True)
    weights = [values for name, values in single["metrics"].items() if "_weight_Epoch" in name]
    assert max(max(values) for values in weights) > 0
    alike(pool.run(learn, method), single, 1e-5)


def drift_of_own_rows(rows: Tensor) -> Tensor:
    """The drift of this rank's rows; a rank without rows has one row, which counts for nothing."""
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    shard = Shard(rank, world, len(rows))
    own = rows[rank::world] if shard.rows else rows.new_zeros(1, rows.shape[1])
    return drifted([own, own], 0.5, shard=shard)[1]


@pytest.mark.parametrize("count", [2, 5])
def test_a_drift_is_that_of_the_whole_batch(pool: Pool, count: int) -> None:
    rows = torch.arange(count * 4.0).reshape(count, 4).square()
    whole = drifted([rows, rows], 0.5)[1]
    ranks = pool.run(drift_of_own_rows, rows, ranks=3)
    for rank, own in enumerate(ranks):
        assert torch.equal(own, whole[rank::3] if rank < count else torch.zeros(1, 4))


def test_batches_that_ranks_choose_from_keep_their_names(pool: Pool) -> None:
    """Without names, ``"clean"`` has no values for a chosen batch."""
    single = learn("fda-online-clean", plain=True)
    alike(pool.run(learn, "fda-online-clean"), single)


def test_a_rank_without_rows_counts_for_nothing(pool: Pool) -> None:
    """60 rows in batches of 29 leave a last one of 2, of which the third rank has none."""
    for method in ("fda-shuffled", "ldifs"):
        single = learn(method, plain=True, train_mb_size=29)
        alike(pool.run(learn, method, ranks=3, train_mb_size=29), single)


@pytest.mark.parametrize(
    ("model", "stream"), [("growing", "classic"), ("growing", "modern"), ("multi", "tasks")]
)
@pytest.mark.parametrize("method", ["fda", "all"])
def test_heads_that_grow_and_heads_of_tasks(
    pool: Pool, model: str, stream: str, method: str
) -> None:
    single = learn(method, model=model, stream=stream, adam=True, plain=True)
    ranks = pool.run(learn, method, model=model, stream=stream, adam=True)
    alike(ranks, single, 2e-4)


def unseeded(**options: Any) -> dict[str, Any]:
    """As with ranks whose weights and streams differ."""
    rank = torch.distributed.get_rank()
    return learn(seed=rank, shift=0.1 * rank, **options)


def test_weights_and_new_heads_are_rank_0s(pool: Pool) -> None:
    for model, stream in (("growing", "classic"), ("multi", "tasks")):
        single = learn("fda", model=model, stream=stream, seed=0, plain=True)
        alike(pool.run(unseeded, method="fda", model=model, stream=stream), single, 2e-4)


def test_a_head_that_a_rank_has_no_samples_of(pool: Pool) -> None:
    """Batches of 4 hold 2 samples a task: with three ranks, one of them has no row of a task."""
    single = learn("ldifs", model="multi", stream="joint", train_mb_size=4, adam=True, plain=True)
    options = {"model": "multi", "stream": "joint", "train_mb_size": 4, "adam": True}
    alike(pool.run(learn, "ldifs", ranks=3, **options), single, 2e-4)


@pytest.mark.parametrize("memory", [{"mem_size": 30}, {"mem_size": 60, "batch_size_mem": 10}])
def test_replay_is_spread_too(pool: Pool, memory: dict[str, int]) -> None:
    """Its loader ends with the new data, also where the memory would last longer."""
    extra = [partial(ReplayPlugin, **memory)]
    single = learn("fda-shuffled", extra=extra, plain=True)
    alike(pool.run(learn, "fda-shuffled", extra=extra), single)


def test_workers_load_the_same_rows(pool: Pool) -> None:
    single = learn("fda", loading={"num_workers": 1}, plain=True, train_epochs=1)
    alike(pool.run(learn, "fda", loading={"num_workers": 1}, train_epochs=1), single)


def everything(epoch: list[Tensor]) -> list[list[float]]:
    """All images of an epoch, sorted."""
    return sorted(image.flatten().tolist() for batch in epoch for image in batch)


@pytest.mark.parametrize("stream", ["classic", "modern"])
def test_shards_cover_the_data_and_are_drawn_anew_in_each_epoch(pool: Pool, stream: str) -> None:
    ranks = pool.run(learn, stream=stream)
    single = learn(stream=stream, plain=True)
    for first in (0, 2):  # epochs 0 and 1 are of the first experience
        one, other = (
            everything([batch for rank in ranks for batch in rank["images"][first + k]])
            for k in (0, 1)
        )
        assert one == other == everything(single["images"][first]) and len(one) == 60
    for rank in ranks:
        assert everything(rank["images"][0]) != everything(rank["images"][1])


def test_ranks_draw_on_their_own_in_steps_and_alike_between_them(pool: Pool) -> None:
    one, other = pool.run(learn, "plain", extra=[Draws])
    for a, b in zip(one["draws"], other["draws"], strict=True):
        assert not torch.equal(a, b)
    assert len({tuple(draw.tolist()) for draw in one["draws"] + other["draws"]}) == 24
    assert torch.equal(one["last_draw"], other["last_draw"])


def test_batch_norm_sees_a_ranks_rows_and_ranks_agree_after_each_epoch(pool: Pool) -> None:
    """The mean of means of equal parts is the mean of all; of variances it is not quite."""
    single = learn(model="normed", train_mb_size=20, plain=True)["weights"]
    one, other = (r["weights"] for r in pool.run(learn, model="normed", train_mb_size=20))
    for name, value in one.items():
        assert torch.equal(value, other[name])
    close(one["backbone.0.running_mean"], single["backbone.0.running_mean"], 1e-5)
    close(one["backbone.0.running_var"], single["backbone.0.running_var"], 0.1)
    assert not torch.equal(one["classifier.weight"], single["classifier.weight"])


@pytest.mark.parametrize("method", ["ldifs-averaged", "averaging"])
def test_averaged_statistics_are_the_same_on_every_rank(pool: Pool, method: str) -> None:
    settings = {"method": method, "model": "normed", "train_mb_size": 20}
    single = learn(plain=True, **settings)["followed"]
    one, other = (r["followed"] for r in pool.run(learn, **settings))
    assert len(single) == len(one) == len(other) > 1
    for mine, theirs, alone in zip(one, other, single, strict=True):
        assert len(mine) == len(alone) == 2
        assert all(map(torch.equal, mine, theirs))
        close(mine[0], alone[0], 1e-5)  # the running mean


def test_an_evaluation_inside_an_epoch_leaves_its_batches_alone(pool: Pool) -> None:
    """Batches of 25, 25 and 10 rows, and an evaluation after the first and the second."""
    options = {"within": True, "eval_every": 1, "peval_mode": "iteration"}
    single = learn(plain=True, **options)
    assert len(single["losses"]) == 2 * 2 * 3
    alike(pool.run(learn, **options), single)
