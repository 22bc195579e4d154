"""A cached feature is always of the same pixels and of the same teacher."""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avalanche_proxyfda import FeatureSource, FeatureTeacher
from avalanche_proxyfda.teacher.cache.batch import MarkedBatch, Marking
from avalanche_proxyfda.teacher.cache.file import CacheFile, _seal
from avalanche_proxyfda.teacher.cache.names import checksums, pixel_names
from avalanche_proxyfda.teacher.cache.teacher_cache import TeacherCache
from avalanche_proxyfda.teacher.cached import CachedTeacher, Named
from tests.plugins.toys import Plain

PLACE = FeatureSource("backbone")


class Pooled(nn.Module):
    """Any resolution to 6 features."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten(2), nn.AdaptiveAvgPool1d(1))
        self.head = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def cached(model: nn.Module, place: FeatureSource) -> CachedTeacher:
    return CachedTeacher(FeatureTeacher(model, [place]))


def asked(teacher: CachedTeacher, images: Tensor, **options: Any) -> Tensor:
    teacher.forget()
    return teacher.values(images, named=Named(pixel_names(images)), **options)[PLACE]


def made(capacity: int = 100, **options: Any) -> tuple[CachedTeacher, Tensor]:
    torch.manual_seed(0)
    teacher, images = cached(Pooled(), PLACE), torch.randn(12, 1, 6, 6)
    teacher.begin_cache(TeacherCache(capacity, **options))
    return teacher, images


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "transform": lambda x: x * (1 + 1e-6),
    "one pixel": lambda x: x.clone().index_put_(
        (torch.tensor(3), torch.tensor(0), torch.tensor(1), torch.tensor(1)), torch.tensor(9.0)
    ),
    "resolution": lambda x: nn.functional.interpolate(x, 8),
    "crop": lambda x: x[..., :5, :],
    "shape of the same bytes": lambda x: x.reshape(12, 1, 4, 9),
    "data": lambda x: torch.randn(x.shape),
    "order": lambda x: x.flip(0),
    "part": lambda x: torch.cat((x[3:5], torch.randn(3, 1, 6, 6), x[3:4])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_stale_value_when_images_change(change: str) -> None:
    teacher, images = made()
    first = asked(teacher, images)
    other = CHANGES[change](images)
    found = asked(teacher, other)
    right = teacher.live(other, None, None)[PLACE]
    torch.testing.assert_close(found, right, rtol=1e-6, atol=1e-6)
    assert torch.equal(asked(teacher, images), first)
    assert teacher.cache is not None and teacher.cache.hits >= 12


def test_no_stale_value_when_weights_change() -> None:
    for change in ("in place", "replaced", "data", "buffer"):
        teacher, images = made()
        if change == "buffer":
            asked(teacher, images)  # which shows what part of the model is kept
            teacher.module.register_buffer("shift", torch.zeros(1))
            teacher.begin_cache(TeacherCache(100))
        before = asked(teacher, images)
        conv = next(m for m in teacher.module.modules() if isinstance(m, nn.Conv2d))
        with torch.no_grad():
            if change == "in place":
                conv.weight.mul_(2)
            elif change == "replaced":
                conv.weight = nn.Parameter(2 * conv.weight)
            elif change == "data":
                conv.weight.data = 2 * conv.weight
            else:
                teacher.module.shift.add_(1)
        found = asked(teacher, images)
        assert teacher.cache is None
        assert torch.equal(found, teacher.live(images, None, None)[PLACE])
        assert torch.equal(found, before) == (change == "buffer")


def test_no_stale_value_under_another_dtype() -> None:
    teacher, images = made()
    asked(teacher, images)
    lower = asked(teacher, images, autocast=torch.bfloat16)
    assert lower.dtype == torch.bfloat16
    assert torch.equal(lower, teacher.live(images, torch.bfloat16, None)[PLACE])
    double = images.double().float().to(torch.float64)
    assert pixel_names(images) != pixel_names(double)
    half = (images == images).to(torch.int32), (images == images).to(torch.float32)
    assert not set(pixel_names(half[0])) & set(pixel_names(half[1]))


def test_a_full_cache_asks_the_teacher() -> None:
    teacher, images = made(capacity=5)
    first = asked(teacher, images)
    for _ in range(2):
        found = asked(teacher, images)
        torch.testing.assert_close(found, first, rtol=1e-6, atol=1e-6)
    assert teacher.cache is not None
    assert teacher.cache.hits == 10 and len(teacher.cache.store) == 5
    assert teacher.cache.store.nbytes == 5 * 6 * 4


def test_a_batch_with_a_sample_twice() -> None:
    teacher, images = made()
    twice = images[[0, 1, 0, 2]]
    right = teacher.live(twice, None, None)[PLACE]
    assert torch.equal(asked(teacher, twice), right)
    torch.testing.assert_close(asked(teacher, twice), right)
    assert teacher.cache is not None and len(teacher.cache.store) == 3


def test_rounded_values_are_the_same_on_hits_and_misses() -> None:
    teacher, images = made(dtype=torch.float16)
    first = asked(teacher, images)
    assert torch.equal(first, first.half().float()) and first.dtype == torch.float32
    assert torch.equal(asked(teacher, images), first)
    part = torch.cat((images[:4], torch.randn(2, 1, 6, 6)))
    mixed = asked(teacher, part)
    assert torch.equal(mixed[:4], first[:4]) and torch.equal(mixed, mixed.half().float())
    with pytest.raises(ValueError, match=r"cache_dtype='float16' cannot hold .* leave cache_dtype"):
        asked(teacher, images * 1e6)


def test_images_that_change_between_loader_and_device_are_found_out() -> None:
    teacher, images = made()
    sums = checksums(images)
    named = pixel_names(images)
    teacher.values(images, named=Named(named, sums))
    assert teacher.cache is not None
    teacher.cache.end_epoch()
    teacher.forget()
    changed = images.clone()
    changed[7, 0, 2, 2] += 1e-6
    teacher.values(changed, named=Named(named, sums))
    with pytest.raises(ValueError, match="images were changed on their way"):
        teacher.cache.end_epoch()


def test_names_and_check_sums_do_not_depend_on_layout() -> None:
    images = torch.randn(4, 3, 8, 8)
    turned = images.to(memory_format=torch.channels_last)
    assert pixel_names(images) == pixel_names(turned)
    assert torch.equal(checksums(images), checksums(turned))
    odd = torch.randint(0, 255, (4, 3, 5, 5), dtype=torch.uint8)  # 75 bytes a sample
    assert len(set(checksums(odd).tolist())) == 4
    tasks = torch.tensor([0, 1, 0, 1])
    same = images[:1].expand(4, -1, -1, -1)
    assert len(set(pixel_names(same, tasks))) == 2 and len(set(pixel_names(same))) == 1


def test_a_batch_vouches_for_its_own_images_alone() -> None:
    marking = Marking(torch.utils.data.default_collate, verify=True)
    batch = pickle.loads(pickle.dumps(marking([(torch.randn(1, 4, 4), k) for k in range(3)])))
    assert isinstance(batch, MarkedBatch) and len(batch.names or ()) == 3
    assert batch.names_of(batch[0]) is None  # not before it was put in place
    batch[0] = batch[0].to("cpu")
    assert batch.names_of(batch[0]) == pixel_names(batch[0])
    assert batch.names_of(batch[0].clone()) is None
    kept = batch[0].clone()
    batch[0].add_(1)
    assert batch.names_of(batch[0]) is None
    batch[0] = kept
    assert batch.names_of(kept) is None
    moved = MarkedBatch([torch.ones(2, 1)], [b"a", b"b"])
    moved[0] = torch.ones(2, 1, device="meta")
    assert moved.names_of(moved[0]) == [b"a", b"b"]


# ---- files ------------------------------------------------------------------------------

KEY = {"teacher": "a"}


def filed(folder: Path, images: Tensor, key: Any = KEY) -> tuple[CachedTeacher, Tensor]:
    teacher, _ = made(open_file=lambda autocast: CacheFile.open(folder, key, (PLACE,)))
    values = asked(teacher, images)
    assert teacher.cache is not None
    teacher.cache.end_epoch()
    return teacher, values


def test_a_file_is_used_again_with_the_same_bits(tmp_path: Path) -> None:
    images = torch.randn(12, 1, 6, 6)
    first, values = filed(tmp_path, images)
    first.end_cache()
    again, found = filed(tmp_path, images)
    assert again.forwards == 0 and torch.equal(found, values)
    more = torch.cat((images[:2], torch.randn(5, 1, 6, 6)))
    asked(again, more)
    again.end_cache()  # not flushed: those five do not count
    third, _ = filed(tmp_path, images)
    assert third.forwards == 0 and third.cache is not None and len(third.cache.store) == 12


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def _rewrite(path: Path, **changes: Any) -> None:
    """Change an index, and seal it as if it had been written so."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    del content["seal"]
    path.write_text(json.dumps({**content, "seal": _seal(content)}), encoding="utf-8")


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "a bit of a row": lambda rows, index: _flip(rows, 40),
    "torn rows": lambda rows, index: os.truncate(rows, 100),
    "torn index": lambda rows, index: os.truncate(index, 200),
    "no rows": lambda rows, index: rows.unlink(),
    "another key": lambda rows, index: _rewrite(index, key={"version": 1, "teacher": "b"}),
    "another version": lambda rows, index: _rewrite(index, key={"version": 0, "teacher": "a"}),
    "more than there is": lambda rows, index: _rewrite(index, count=13),
    "an empty index": lambda rows, index: index.write_text("", encoding="utf-8"),
    "not an index": lambda rows, index: index.write_text("[1]", encoding="utf-8"),
    "a byte of the index": lambda rows, index: _flip(
        index, index.read_bytes().index(b'"names": "') + 10
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    images = torch.randn(12, 1, 6, 6)
    first, values = filed(tmp_path, images)
    first.end_cache()
    (rows,), (index,) = tmp_path.glob("*.rows"), tmp_path.glob("*.json")
    DAMAGES[damage](rows, index)
    with caplog.at_level(logging.WARNING):
        again, found = filed(tmp_path, images)
    assert torch.equal(found, values) and again.forwards == 1
    assert damage == "no rows" or "is not used, and its rows are computed again" in caplog.text
    again.end_cache()
    assert filed(tmp_path, images)[0].forwards == 0


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    images = torch.randn(12, 1, 6, 6)
    kept = filed(tmp_path, images)
    second, found = filed(tmp_path, images)  # reads what the first has written
    assert second.forwards == 0 and torch.equal(found, kept[1])
    new = images[:4] + 1
    asked(second, new)
    asked(second, new)
    assert second.forwards == 2 and second.cache is not None and len(second.cache.store) == 12
    other, _ = filed(tmp_path, images, {"teacher": "c"})
    beside, _ = filed(tmp_path / "empty", images)
    assert other.forwards == beside.forwards == 1
    held = CacheFile.open(tmp_path / "held", KEY, (PLACE,))
    assert held is not None and held.writable
    alone, found = filed(tmp_path / "held", images)  # nothing to read yet: in memory
    assert alone.forwards == 1 and torch.equal(asked(alone, images), found)
    assert alone.forwards == 1 and held.writable


def test_the_key_tells_teachers_apart() -> None:
    one, two = (cached(Plain(seed=seed), PLACE) for seed in (0, 1))
    same = cached(Plain(seed=0), PLACE)
    place = cached(Plain(seed=0), FeatureSource("backbone.1"))
    assert one.key() == same.key() and len({one.key(), two.key(), place.key()}) == 3
    with torch.no_grad():
        same.module.get_buffer("backbone.2.running_mean").add_(1)
    assert same.key() != one.key()
