"""Hard class mining: the greedy rule against loops, the bank, and plans of batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from avalanche_proxyfda import HardClassBatchSampler
from avalanche_proxyfda._tensors import unit_rows
from avalanche_proxyfda.data.bank import FeatureBank
from avalanche_proxyfda.data.choices import HardestClasses
from avalanche_proxyfda.data.hard_class import HardClassBatches
from avalanche_proxyfda.data.mining import SigmoidValues, hardest_classes
from tests.losses.common import features
from tests.losses.test_fda import MODES
from tests.reference.mining import hardest


def blocks(classes: int, each: int, dim: int, seed: int) -> Tensor:
    """Features of classes around centres, [classes, each, dim] in float64."""
    centres = features(classes, dim, seed).unsqueeze(1)
    return centres + 0.7 * features(classes * each, dim, seed + 1).view(classes, each, dim)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("classes", "each", "count"), [(7, 3, 4), (5, 1, 5), (4, 2, 1)])
def test_the_rule_equals_the_loops(mode: str, classes: int, each: int, count: int) -> None:
    student, teacher = blocks(classes, each, 6, 3), blocks(classes, each, 5, 8)
    sigmoid = SigmoidValues(4.0, -2.0, mode)  # type: ignore[arg-type]
    scale, bias = (torch.tensor(v, dtype=torch.float64) for v in (4.0, -2.0))
    for first in range(classes):
        ours = hardest_classes(student, teacher, first, count, sigmoid)
        assert ours == hardest(student, teacher, first, count, scale, bias, mode)


def test_the_rule_reads_both_models_and_the_sigmoid() -> None:
    student, teacher = blocks(9, 3, 6, 3), blocks(9, 3, 6, 8)

    def choices(s: Tensor, t: Tensor, sigmoid: SigmoidValues) -> list[list[int]]:
        return [hardest_classes(s, t, first, 4, sigmoid) for first in range(9)]

    usual = choices(student, teacher, SigmoidValues())
    assert usual != choices(teacher, teacher, SigmoidValues())
    assert usual != choices(student, student, SigmoidValues())
    assert usual != choices(student, teacher, SigmoidValues(2.0, 0.0))


def test_more_classes_than_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="count=4 is above the 3 candidates"):
        hardest_classes(blocks(3, 2, 4, 0), blocks(3, 2, 4, 0), 0, 4, SigmoidValues())


# ---- the bank -----------------------------------------------------------------------------


def test_the_bank_holds_unit_rows_and_begins_as_the_teacher() -> None:
    teacher = features(6, 8).float() * 7
    bank = FeatureBank(teacher)
    torch.testing.assert_close(bank.teacher.float(), unit_rows(teacher), rtol=0, atol=1e-3)
    assert torch.equal(bank.student, bank.teacher) and bank.student.dtype == torch.float16
    row = 3 * features(1, 8, seed=4).float()
    bank.keep(torch.tensor([2]), row)
    torch.testing.assert_close(bank.student[2:3].float(), unit_rows(row), rtol=0, atol=1e-3)
    others = torch.tensor([0, 1, 3, 4, 5])
    assert torch.equal(bank.student[others], bank.teacher[others])
    other = FeatureBank(teacher)
    other.load_state_dict(bank.state_dict())
    assert torch.equal(other.student, bank.student)


def test_a_bank_of_other_data_is_refused() -> None:
    bank = FeatureBank(features(6, 8))
    with pytest.raises(ValueError, match="bank has 6 samples, and the training data has 7"):
        bank.check(7)
    with pytest.raises(ValueError, match="the data set changed within the experience"):
        bank.load_state_dict(FeatureBank(features(5, 8)).state_dict())
    with pytest.raises(ValueError, match="bank has 6 samples"):
        HardClassBatchSampler([0, 1] * 4, HardestClasses(bank, SigmoidValues), 2, 2)


@pytest.mark.parametrize(
    ("rows", "words"),
    [(torch.zeros(0, 3), "the data set is empty"), (torch.tensor([[torch.nan]]), "NaN or Inf")],
)
def test_bad_features(rows: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FeatureBank(rows)


# ---- batches ------------------------------------------------------------------------------


def mined(
    classes: int = 8, each: int = 5, m: int = 3, n: int = 2, seed: int = 4
) -> tuple[HardClassBatchSampler, FeatureBank, np.ndarray]:
    """A sampler on a bank whose student differs from the teacher, and the labels."""
    labels = np.repeat(np.arange(classes), each)
    bank = FeatureBank(blocks(classes, each, 6, 1).flatten(0, 1))
    bank.keep(torch.arange(len(labels)), blocks(classes, each, 6, 5).flatten(0, 1))
    choice = HardestClasses(bank, SigmoidValues)
    return HardClassBatchSampler(labels.tolist(), choice, m, n, seed=seed), bank, labels


def test_batches_of_the_bank_follow_the_rule_on_the_samples_that_classes_offer() -> None:
    # with n samples of each class, the samples of a class are forced
    sampler, bank, labels = mined(each=2, n=2)
    scale, bias = torch.tensor(10.0).double(), torch.tensor(-10.0).double()
    for batch in sampler:
        order = [int(labels[i]) for i in batch[::2]]
        students, teachers = (
            unit_rows(b.double()).view(8, 2, 6) for b in (bank.student, bank.teacher)
        )
        assert order == hardest(students, teachers, order[0], 3, scale, bias, "similarity")


def test_an_epoch_is_balanced_and_uses_no_sample_twice_before_its_class_is_spent() -> None:
    sampler, _, labels = mined()
    for batch in sampler:
        assert len(set(batch)) == 6
        assert sorted(np.bincount(labels[batch]))[-3:] == [2, 2, 2]
    plan = sampler.plan
    assert plan is not None and plan.shape == (len(sampler), 6)
    for c in range(8):
        drawn = [int(i) for i in plan.flatten() if labels[i] == c]
        for start in range(0, len(drawn), 5):
            part = drawn[start : start + 5]
            assert len(set(part)) == len(part)


def test_features_that_change_within_an_epoch_change_only_the_next_one() -> None:
    still, _, _ = mined()
    moving, bank, _ = mined()
    first, second = list(still), list(still)
    iterator = iter(moving)
    seen = [next(iterator)]
    bank.keep(torch.arange(40), blocks(8, 5, 6, 30).flatten(0, 1))
    seen += list(iterator)
    assert seen == first
    assert list(moving) != second


def test_a_plan_survives_a_saved_state() -> None:
    sampler, bank, _ = mined()
    iterator = iter(sampler)
    head = [next(iterator) for _ in range(2)]
    state, rest = sampler.state_dict(), list(iterator)
    other, other_bank, _ = mined(seed=9)
    other_bank.load_state_dict(bank.state_dict())
    other.load_state_dict(state)
    other.set_epoch(0)
    assert head + list(other) == head + rest
    assert list(other) == list(sampler)


def test_a_sample_that_a_batch_has_twice_is_stored_once() -> None:
    batches = HardClassBatches(2, 2, 0, "bank")
    batches.bank = FeatureBank(features(3, 4))
    batches.sampler = HardClassBatchSampler([0, 1, 2], None, 2, 2)
    batches.sampler.plan = torch.tensor([[0, 0, 2, 2]])
    rows = features(4, 4, seed=9)
    batches.keep(rows)
    stored = batches.bank.student.double()
    torch.testing.assert_close(stored[[0, 2]], unit_rows(rows[[0, 2]]), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mining": "hard"}, "mining='hard' is unknown; choose one of"),
        ({"candidates": 3}, "candidates=3 is below classes_per_batch=4"),
        ({"candidates": 0}, "candidates=0 must be at least 1"),
        ({"candidates": 6}, "candidates=6 has no effect with mining='prototypes'"),
    ],
)
def test_bad_options(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        HardClassBatches(4, 2, 0, **options)  # type: ignore[arg-type]
