"""Loaders that live across epochs: the same batches for any number of workers and any resume."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from avalanche_proxyfda._keys import uniform
from avalanche_proxyfda.data.bank import FeatureBank
from avalanche_proxyfda.data.choices import HardestClasses
from avalanche_proxyfda.data.keyed import KeyedSamples, ShuffledBatches, Stamp
from avalanche_proxyfda.data.loaders import datasets_of, with_datasets
from avalanche_proxyfda.data.mining import SigmoidValues
from avalanche_proxyfda.data.sampler import HardClassBatchSampler
from avalanche_proxyfda.data.steady import SteadyLoader
from avalanche_proxyfda.data.views import NumberedItems, ReplayedViews
from avalanche_proxyfda.distributed.loaders import rebuilt


class Drawn(Dataset[Any]):
    """Its samples are their number and one random number."""

    def __init__(self, count: int = 11) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, k: int) -> Any:
        return torch.tensor([float(k), uniform()()])


def loader(workers: int = 0, count: int = 11, sampler: Any = None, **options: Any) -> SteadyLoader:
    batches = sampler or ShuffledBatches(count, 4, seed=5)
    return SteadyLoader(KeyedSamples(Drawn(count), 7), batches, num_workers=workers, **options)


def epochs(made: SteadyLoader, first: int, stop: int, total: int) -> list[Any]:
    found = []
    for epoch in range(first, stop):
        made.set_epochs(epoch, total)
        found.append(torch.cat(list(made)))
    return found


def test_workers_and_a_resume_change_nothing() -> None:
    alone = epochs(loader(), 0, 4, 4)
    assert all(sorted(e[:, 0].tolist()) == list(range(11)) for e in alone)
    assert not torch.equal(alone[0][:, 1].sort()[0], alone[1][:, 1].sort()[0])
    two = epochs(loader(2), 0, 4, 4)
    assert all(map(torch.equal, alone, two))
    resumed = loader(1)
    resumed.set_epochs(2, 4)
    resumed.begin_at(2)
    assert torch.equal(torch.cat(list(resumed)), alone[2][8:])
    assert torch.equal(epochs(resumed, 3, 4, 4)[0], alone[3])


def test_the_next_epoch_begins_before_the_last_step_of_this_one() -> None:
    made = loader(1, prefetch_factor=2)
    made.set_epochs(0, 3)
    drawn: list[int] = []
    batches = iter(made)
    next(batches)
    run = made._running_of
    assert run is not None and run[0].crosses
    inner = made._batches
    assert inner is not None
    drawn.append(inner._send_idx)  # type: ignore[attr-defined]
    list(batches)
    assert inner._send_idx > len(made) >= drawn[0]  # type: ignore[attr-defined]
    made.set_epochs(1, 3)
    list(made)
    assert made._batches is inner  # the same workers


def test_an_epoch_that_is_left_early_begins_again() -> None:
    made, alone = loader(1), epochs(loader(), 0, 2, 2)
    made.set_epochs(0, 2)
    next(iter(made))
    made.set_epochs(0, 2)
    assert torch.equal(torch.cat(list(made)), alone[0])


def test_batches_that_depend_on_training_are_not_drawn_ahead() -> None:
    labels = [0, 1, 2] * 4
    bank = FeatureBank(torch.eye(12))
    hard = HardClassBatchSampler(labels, HardestClasses(bank, SigmoidValues), 2, 2, seed=1)
    assert not loader(1, 12, hard).crosses
    made = loader(0, 12, hard)
    first = epochs(made, 0, 1, 2)[0]
    assert hard.plan is not None
    assert first[:, 0].tolist() == hard.plan.flatten().tolist()
    assert hard.left_out is not None


@pytest.mark.parametrize("workers", [0, 1])
def test_hard_class_batches_are_those_of_their_own_sampler(workers: int) -> None:
    labels = [0, 1, 2] * 4
    hard = HardClassBatchSampler(labels, None, 2, 2, seed=1)
    plain = HardClassBatchSampler(labels, None, 2, 2, seed=1)
    expected = [list(plain) for _ in range(3)]
    made = loader(workers, 12, hard)
    for epoch, batches in enumerate(expected):
        hard.set_epoch(epoch)
        found = epochs(made, epoch, epoch + 1, 3)[0][:, 0].reshape(-1, 4).int().tolist()
        assert found == batches
    assert hard.left_out == plain.left_out
    hard.load_state_dict({"seed": 1, "epoch": 1, "position": 2, "plan": None})
    again = loader(workers, 12, hard)  # the sampler's own state resumes too
    assert epochs(again, 0, 1, 1)[0][:, 0].reshape(-1, 4).int().tolist() == expected[1][2:]


def test_the_loader_is_rebuilt_with_its_kind_and_its_data_wrapped() -> None:
    made = loader()
    made.set_epochs(3, 9)
    wrapped = with_datasets(made, NumberedItems)
    assert isinstance(wrapped, SteadyLoader)
    assert isinstance((datasets_of(wrapped) or [])[0], NumberedItems)
    other = rebuilt(wrapped, batch_sampler=ShuffledBatches(11, 2, 0), collate_fn=list)
    assert isinstance(other, SteadyLoader) and other.keyed
    items = [item for batch in other for item in batch]
    fourth = {int(r[0]): float(r[1]) for r in epochs(made, 3, 4, 9)[0]}
    assert {i.number: float(i.item[1]) for i in items} == fourth  # the epoch came along
    plain = DataLoader(Drawn(), 2)
    assert type(rebuilt(plain, batch_sampler=plain.batch_sampler)) is DataLoader


def test_replayed_views_follow_the_epoch_of_the_number() -> None:
    views = ReplayedViews(Drawn(), 2, 0)
    first, second, third = (views[Stamp(4, epoch)] for epoch in range(3))
    assert torch.equal(first, third) and not torch.equal(first, second)


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="batch_size=0"):
        ShuffledBatches(4, 0, 0)
