"""Reference data: the order of the images, their views, and refusals."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from avalanche_proxyfda._keys import uniform
from avalanche_proxyfda.data.reference import ReferenceData

CPU = torch.device("cpu")


class Noisy(Dataset[Any]):
    """Images [1, 2, 2] with their number, and noise of two kinds of random streams."""

    def __init__(self, count: int = 7, side: int = 2) -> None:
        self.count, self.side, self.reads = count, side, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        self.reads += 1
        noise = float(torch.rand(())) + uniform()()
        return torch.full((1, self.side, self.side), number + 0.1 * noise), number


@pytest.mark.parametrize("count", [6, 7, 8])
def test_a_pass_holds_every_image_and_a_batch_none_twice(count: int) -> None:
    data = ReferenceData(Noisy(count), batch=3)
    for turn in range(3):
        steps = range(-(-count // 3) * turn, -(-count // 3) * (turn + 1))
        batches = [data.numbers(experience=1, step=step) for step in steps]
        assert {n for batch in batches for n in batch} == set(range(count))
        assert all(len(set(batch)) == 3 for batch in batches)


def test_a_batch_depends_on_seed_experience_and_step_alone() -> None:
    data = ReferenceData(Noisy(50), batch=8)
    state = torch.get_rng_state()
    there = [data.batch_of(e, s, CPU) for e in range(2) for s in range(9)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    again = ReferenceData(Noisy(50), batch=8)
    back = [again.batch_of(e, s, CPU) for e in (1, 0) for s in reversed(range(9))][::-1]
    for one, other in zip(there, back, strict=True):
        assert one.numbers == other.numbers
        assert torch.equal(one.images, other.images)
    assert there[0].numbers != there[9].numbers
    assert ReferenceData(Noisy(50), batch=8, seed=1).numbers(0, 0) != there[0].numbers


def test_a_view_is_drawn_once_with_and_without_memory() -> None:
    kept, read = (ReferenceData(Noisy(), batch=7, memory=m) for m in (2**20, 0))
    for step in range(2):
        one, other = kept.batch_of(0, step, CPU), read.batch_of(0, step, CPU)
        assert torch.equal(one.images, other.images)
    assert kept.images.reads == 7
    assert read.images.reads == 14
    assert len(pickle.loads(pickle.dumps(kept))._kept) == 0


def test_the_digest_tells_views_and_texts_apart() -> None:
    pictures, texts = torch.rand(5, 3, 4, 4), torch.rand(2, 6)
    whole = ReferenceData(pictures, texts, batch=2).about()
    assert ReferenceData(list(pictures), texts, batch=2).about() == whole
    digests = {whole["digest"]}
    for image in (0, 2, 4):
        changed = pictures.clone()
        changed[image] += 0.1
        digests.add(ReferenceData(changed, texts, batch=2).about()["digest"])
    digests.add(ReferenceData(pictures.double(), texts, batch=2).about()["digest"])
    digests.add(ReferenceData(pictures, texts + 1, batch=2).about()["digest"])
    assert len(digests) == 6


def test_a_tensor_a_plain_image_and_a_pair_are_images() -> None:
    rows = torch.rand(5, 1, 2, 2)
    sources = (rows, TensorDataset(rows), TensorDataset(rows, torch.arange(5)), list(rows))
    for source in sources:
        batch = ReferenceData(source, batch=2).batch_of(0, 0, CPU)
        assert torch.equal(batch.images, rows[batch.numbers])


@pytest.mark.parametrize(
    ("images", "options", "kind", "message"),
    [
        (torch.rand(3, 1, 2, 2), {}, ValueError, r"batch=64 is more than the 3 reference images"),
        (Path("photos"), {}, TypeError, r"photos.* is a path"),
        ("photos", {}, TypeError, r"images='photos' is a path"),
        (iter([]), {}, TypeError, "list_iterator, which is no data set"),
        (torch.rand(3, 2, 2), {"batch": 2}, ValueError, r"a tensor \[3, 2, 2\] of float32"),
        (torch.zeros(3, 1, 2, 2).byte(), {"batch": 2}, ValueError, r"a tensor .* of uint8"),
        (Noisy(), {"batch": 0}, ValueError, "batch=0 must be at least 1"),
        (Noisy(), {"batch": 2, "texts": ["a"]}, TypeError, "texts is a list"),
        (Noisy(), {"batch": 2, "texts": torch.rand(3)}, ValueError, r"a tensor \[3\] of float32"),
        (Noisy(), {"batch": 2, "seed": -1}, ValueError, "seed=-1"),
    ],
)
def test_bad_reference_data_is_refused(
    images: Any, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        ReferenceData(images, **options)


def test_images_that_are_no_tensors_of_one_shape_are_refused() -> None:
    with pytest.raises(TypeError, match=r"reference image \d is an int, and a float tensor"):
        ReferenceData(list(range(4)), batch=2).batch_of(0, 0, CPU)
    mixed = [torch.rand(1, 2, 2), torch.rand(1, 3, 3)]
    with pytest.raises(ValueError, match=r"several shapes, \[\(1, 2, 2\), \(1, 3, 3\)\]"):
        ReferenceData(mixed, batch=2).batch_of(0, 0, CPU)
