"""HardClassBatchSampler: composition of batches, coverage, streams, state."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from avalanche_proxyfda import HardClassBatchSampler, class_prototypes
from avalanche_proxyfda.data.choices import SimilarClasses


def labels(classes: int, each: int) -> list[int]:
    return [c for c in range(classes) for _ in range(each)]


def greedy(first: int, similarity: torch.Tensor, m: int) -> list[int]:
    """The rule by the letter: add the class with the largest mean similarity to the chosen."""
    chosen = [first]
    while len(chosen) < m:
        scores = {
            c: sum(float(similarity[c, k]) for k in chosen) / len(chosen)
            for c in range(len(similarity))
            if c not in chosen
        }
        chosen.append(max(scores, key=lambda c: scores[c]))
    return chosen


def test_batches_follow_the_greedy_rule() -> None:
    prototypes = torch.randn(12, 5, generator=torch.Generator().manual_seed(1))
    rows = torch.nn.functional.normalize(prototypes, dim=1)
    target = labels(12, 10)
    for batch in HardClassBatchSampler(target, SimilarClasses(prototypes), 4, 3, seed=7):
        order = [target[i] for i in batch]
        assert order[::3] == greedy(order[0], rows @ rows.T, 4)
        assert all(count == 3 for count in Counter(order).values())
        assert len(set(batch)) == 12


def test_every_class_starts_a_batch_equally_often() -> None:
    target = labels(7, 10)
    sampler = HardClassBatchSampler(target, SimilarClasses(torch.randn(7, 3)), 3, 2, seed=1)
    starts: Counter[int] = Counter()
    for _ in range(5):
        starts.update(target[batch[0]] for batch in sampler)
    assert sum(starts.values()) == 5 * len(sampler) == 60
    assert max(starts.values()) - min(starts.values()) <= 1


def test_without_prototypes_other_classes_vary() -> None:
    target = labels(10, 8)
    sampler = HardClassBatchSampler(target, None, 4, 2, seed=0)
    sets = {frozenset(target[i] for i in batch) for _ in range(3) for batch in sampler}
    assert len(sets) > 20


@pytest.mark.parametrize(
    ("classes", "m", "n", "expected"),
    [(10, 16, 4, (10, 6)), (3, 16, 4, (3, 21)), (40, 16, 4, (16, 4))],
)
def test_few_classes_fill_the_batch(
    classes: int, m: int, n: int, expected: tuple[int, int]
) -> None:
    sampler = HardClassBatchSampler(labels(classes, 30), None, m, n)
    assert (sampler.classes_per_batch, sampler.samples_per_class) == expected
    size = expected[0] * expected[1]
    assert sampler.batch_size == size
    assert len(sampler) == -(-classes * 30 // size) == len(list(sampler))


def test_samples_are_not_repeated_before_their_class_is_used_up() -> None:
    sampler = HardClassBatchSampler(labels(2, 12), None, 2, 4, seed=3)
    seen = Counter(i for batch in sampler for i in batch)
    assert len(sampler) == 3 and set(seen.values()) == {1} and len(seen) == 24


def test_a_class_smaller_than_n_repeats_and_others_do_not() -> None:
    target = [0] * 2 + [1] * 20
    for batch in HardClassBatchSampler(target, None, 2, 5, seed=0):
        counts = Counter(batch)
        small = [counts[i] for i in counts if target[i] == 0]
        assert sum(small) == 5 and len(small) == 2 and max(small) == 3
        assert all(counts[i] == 1 for i in counts if target[i] == 1)


def test_a_batch_across_two_shuffles_holds_no_sample_twice() -> None:
    sampler = HardClassBatchSampler(labels(2, 5), None, 2, 4, seed=0)
    for _ in range(20):
        for batch in sampler:
            assert len(set(batch)) == len(batch)


def test_epochs_differ_and_can_be_chosen() -> None:
    one, two = (HardClassBatchSampler(labels(5, 9), None, 3, 3, seed=2) for _ in range(2))
    epochs = [list(one) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    two.set_epoch(2)
    assert list(two) == epochs[2]
    two.set_epoch(0)
    assert list(two) == epochs[0]
    assert list(HardClassBatchSampler(labels(5, 9), None, 3, 3, seed=3)) != epochs[0]


def test_an_iteration_that_was_broken_off_starts_again() -> None:
    sampler = HardClassBatchSampler(labels(5, 9), None, 3, 3, seed=2)
    whole = list(sampler)
    sampler.set_epoch(0)
    next(iter(sampler))
    sampler.set_epoch(0)
    assert list(sampler) == whole


def test_state_goes_on_in_the_middle_of_an_epoch() -> None:
    choice = SimilarClasses(torch.randn(5, 4))
    sampler = HardClassBatchSampler(labels(5, 9), choice, 3, 3, seed=2)
    next_epoch = list(sampler), list(sampler)
    sampler.set_epoch(0)
    iterator = iter(sampler)
    head = [next(iterator) for _ in range(2)]
    state = sampler.state_dict()
    other = HardClassBatchSampler(labels(5, 9), choice, 3, 3)
    other.load_state_dict(state)
    other.set_epoch(0)
    assert head + list(other) == next_epoch[0]
    assert list(other) == next_epoch[1]


def test_a_position_is_of_its_epoch() -> None:
    sampler = HardClassBatchSampler(labels(5, 9), None, 3, 3, seed=2)
    next(iter(sampler))
    sampler.set_epoch(5)
    assert sampler.state_dict() == {"seed": 2, "epoch": 5, "position": 0, "plan": None}


def test_the_global_generator_is_not_touched() -> None:
    before = torch.get_rng_state()
    choice = SimilarClasses(torch.randn(5, 4, generator=torch.Generator()))
    list(HardClassBatchSampler(labels(5, 9), choice, 3, 3))
    assert torch.equal(before, torch.get_rng_state())
    source = torch.Generator().manual_seed(5)
    first = HardClassBatchSampler(labels(5, 9), generator=source)
    second = HardClassBatchSampler(labels(5, 9), generator=torch.Generator().manual_seed(5))
    assert first.seed == second.seed != 0


def test_a_loader_takes_it() -> None:
    data = TensorDataset(torch.arange(24.0), torch.tensor(labels(4, 6)))
    sampler = HardClassBatchSampler(labels(4, 6), None, 4, 2)
    for workers in (0, 2):
        sampler.set_epoch(0)
        seen = [
            y.bincount().tolist()
            for _, y in DataLoader(data, batch_sampler=sampler, num_workers=workers)
        ]
        assert seen == [[2, 2, 2, 2]] * 3


def test_labels_may_be_any_integers() -> None:
    target = torch.tensor([7, -3, 7, -3, 100, 100])
    sampler = HardClassBatchSampler(target, SimilarClasses(torch.eye(3)), 2, 1)
    assert sampler.classes == [-3, 7, 100]
    assert all(len({int(target[i]) for i in batch}) == 2 for batch in sampler)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (([],), {}, "labels must be a non-empty list"),
        (([0.5, 1.5],), {}, "labels must be a non-empty list of integers"),
        (
            (["cat", "dog"],),
            {},
            "labels must be a list of integers: .* number of each sample",
        ),
        (([0, 1],), {"classes_per_batch": 0}, "classes_per_batch=0"),
        (([0, 1],), {"samples_per_class": -1}, "samples_per_class=-1"),
        (([0, 1], SimilarClasses(torch.eye(3))), {}, "one for each of the 2 classes"),
        (([0, 1],), {"length": 0}, "length=0"),
        (([0, 1],), {"seed": 1, "generator": torch.Generator()}, "seed or generator, not both"),
    ],
)
def test_bad_input(arguments: tuple[object, ...], options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        HardClassBatchSampler(*arguments, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prototypes", "words"),
    [
        (torch.tensor([[1.0], [torch.nan]]), "prototypes hold NaN"),
        (torch.ones(3), r"prototypes has shape \(3,\)"),
    ],
)
def test_bad_prototypes(prototypes: torch.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SimilarClasses(prototypes)


def test_prototypes_are_normalised_class_means() -> None:
    images = torch.randn(20, 3)
    target = torch.tensor([5, 2, 2, 9] * 5)
    data = TensorDataset(images, target)
    before = torch.get_rng_state()
    found = class_prototypes(data, target, lambda x: x * 3, torch.device("cpu"), batch_size=6)
    with pytest.raises(ValueError, match="dataset is empty"):
        class_prototypes(TensorDataset(images[:0]), [], lambda x: x, torch.device("cpu"))
    assert torch.equal(before, torch.get_rng_state())
    for row, label in zip(found, (2, 5, 9), strict=True):
        mean = sum(x / x.norm() for x, y in zip(images, target, strict=True) if y == label)
        torch.testing.assert_close(row, mean / mean.norm())


def test_prototypes_of_broken_features_are_refused() -> None:
    data = TensorDataset(torch.full((4, 2), torch.nan), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ValueError, match="hold NaN or Inf"):
        class_prototypes(data, [0, 1, 0, 1], lambda x: x, torch.device("cpu"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([0, 1, 0], "labels has 3 entries, and dataset 4 items: give the label of each item"),
        ([0, 1, 0, 1, 2], "labels has 5 entries, and dataset 4 items: give the label of each item"),
        ([], r"non-empty list of integers, got shape \(0,\) .*; give the class number of each"),
        ([0.5, 1.0, 0.5, 1.0], "list of integers, got shape .* of torch.float32"),
        ([[0, 1, 0, 1]], r"list of integers, got shape \(1, 4\)"),
        (["a", "b", "a", "b"], "labels must be a list of integers: .* number of each sample"),
        ([0, None, 0, 1], "labels must be a list of integers: .* number of each sample"),
    ],
)
def test_prototypes_need_a_label_for_each_item(given: Any, words: str) -> None:
    def features(images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("labels are checked before the pass")

    with pytest.raises(ValueError, match=words):
        class_prototypes(TensorDataset(torch.eye(4)), given, features, torch.device("cpu"))


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (lambda x: x[:, :, None], r"features returned the shape \(3, 4, 1\); expected \[B, D\]"),
        (lambda x: x[:, :0], r"features returned the shape \(3, 0\); expected \[B, D\]"),
        (lambda x: x[:1], "features returned 2 rows for 4 images: it must return one row an image"),
        (lambda x: x.repeat(2, 1), "features returned 6 rows or more for 4 images: it must"),
    ],
)
def test_prototypes_need_a_row_for_each_image(features: Any, words: str) -> None:
    data = TensorDataset(torch.eye(4))
    with pytest.raises(ValueError, match=words):
        class_prototypes(data, [0, 1, 0, 1], features, torch.device("cpu"), batch_size=3)
