"""Batches of uint8 pixels: collating, moving, cropping on the device, naming."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch.utils.data import default_collate

from avalanche_proxyfda.pixels import Finish, PixelBatch, Pixels, RandomCrop
from avalanche_proxyfda.pixels.batch import counts
from avalanche_proxyfda.pixels.decode import PIL, ROW
from avalanche_proxyfda.teacher.cache.batch import MarkedBatch, Marking
from tests.pixels.pictures import HALF

FINISH = Finish(8, HALF, HALF)


def rows(count: int, side: int = 12, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    small = torch.rand(count, 3, 5, 5, generator=random) * 255
    large = torch.nn.functional.interpolate(small, (side, side), mode="bicubic")
    return large.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def items(count: int = 6, crop: bool = True) -> list[Pixels]:
    draws = torch.Generator().manual_seed(3)
    box = RandomCrop((0.2, 1.0), flip=True)

    def uniform() -> float:
        return float(torch.rand((), generator=draws))

    side = 12 if crop else 8
    return [
        Pixels(row, FINISH, ROW, box.box(12, 12, uniform) if crop else None)
        for row in rows(count, side)
    ]


def test_collating_and_moving_give_the_floats_of_each_image() -> None:
    made = items()
    images, labels = default_collate([(item, k) for k, item in enumerate(made)])
    assert isinstance(images, PixelBatch) and labels.tolist() == list(range(6))
    floats = images.to("cpu")
    assert floats.dtype == torch.float32 and floats.shape == images.shape == (6, 3, 8, 8)
    for item, image in zip(made, floats, strict=True):
        assert torch.equal(item.image(), image)
    assert torch.equal(images[2:4].to("cpu"), floats[2:4])


def test_whole_rows_are_normalised_as_torchvision_does() -> None:
    made = items(crop=False)
    floats = PixelBatch.of(made).to("cpu")
    expected = torch.stack([(i.row.permute(2, 0, 1).float() / 255 - 0.5) / 0.5 for i in made])
    assert torch.equal(floats, expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_crops_of_an_accelerator_are_the_cpus_to_within_two_steps(interpolation: Any) -> None:
    batch = PixelBatch.of(items(24))
    finish = Finish(8, HALF, HALF, interpolation)
    assert batch.boxes is not None
    one_by_one = finish._cropped_one_by_one(batch.rows, batch.boxes)
    at_once = finish._cropped_at_once(batch.rows, batch.boxes)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = finish._cropped_at_once(batch.rows, batch.boxes)
    assert not torch.equal(rounded, at_once)  # why ``__call__`` leaves autocast
    difference = (at_once - one_by_one.float()).abs()
    assert float(difference.max()) <= 2  # the CPU rounds its weights too
    assert float(difference.mean()) < 0.3


def test_images_of_other_views_are_refused_together() -> None:
    other = Pixels(rows(1, 12)[0], Finish(9, HALF, HALF), PIL)
    with pytest.raises(ValueError, match="different views"):
        PixelBatch.of([*items(2), other])


def test_moving_counts_the_ways() -> None:
    batch, before = PixelBatch.of(items(5)), counts["row"]
    batch.to("cpu")
    batch[:2].finished(torch.device("cpu"))
    assert counts["row"] - before == 5


def test_a_batch_travels_between_processes_and_knows_its_images() -> None:
    batch = PixelBatch.of(items())
    images = batch.to("cpu")
    assert batch.made(images) and not batch.made(images.clone())
    again = pickle.loads(pickle.dumps(batch))
    assert torch.equal(again.to("cpu"), images) and not again.made(images)


# ---- names of a teacher's cache -----------------------------------------------------------


def names(made: list[Pixels]) -> list[bytes]:
    batch = Marking(default_collate, verify=True)([(item, 0) for item in made])
    assert isinstance(batch, MarkedBatch) and batch.names is not None
    return batch.names


def test_names_tell_pixels_boxes_and_settings_apart() -> None:
    made = items(4)
    assert names(made) == names(items(4))
    moved = [Pixels(i.row, FINISH, ROW, (0, 0, 6 + k, 6, 0)) for k, i in enumerate(made)]
    bright = [Pixels(i.row, Finish(8, HALF, (1.0, 1.0, 1.0)), ROW, i.box) for i in made]
    assert len({*names(made), *names(moved), *names(bright)}) == 12


def test_names_stay_with_the_images_that_the_batch_makes_and_no_others() -> None:
    batch = Marking(default_collate, verify=False)([(item, 0) for item in items(4)])
    batch[0] = batch[0].to("cpu")
    assert batch.names_of(batch[0]) == names(items(4))
    batch[0].add_(1)
    assert batch.names_of(batch[0]) is None
    replaced = Marking(default_collate, verify=False)([(item, 0) for item in items(4)])
    replaced[0] = torch.zeros(4, 3, 8, 8)
    assert replaced.names_of(replaced[0]) is None
