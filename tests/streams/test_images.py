"""Images of every kind become RGB, and broken ones are refused with their path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avalanche_proxyfda.streams.files.images import (
    ImageFiles,
    UnreadableImage,
    list_hash,
    load_rgb,
    scan,
)


def picture(mode: str, size: tuple[int, int] = (8, 6)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        ("RGB", "png"),
        ("RGB", "jpg"),
        ("L", "png"),
        ("1", "png"),
        ("P", "png"),
        ("RGBA", "png"),
        ("LA", "png"),
        ("CMYK", "jpg"),
        ("RGBA", "webp"),
        ("P", "gif"),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    picture(mode).save(path)
    image = load_rgb(path)
    assert image.mode == "RGB" and image.size == (8, 6)
    close = np.abs(np.asarray(image, float) - np.asarray(picture(mode).convert("RGB"), float))
    assert mode in ("P", "1", "CMYK") or ending in ("jpg", "webp") or close.max() <= 1


def test_transparency_is_put_on_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    clear.save(tmp_path / "x.png")
    assert load_rgb(tmp_path / "x.png").getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30] * 256)
    palette.save(tmp_path / "y.png", transparency=0)
    assert load_rgb(tmp_path / "y.png").getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_keep_their_range(tmp_path: Path) -> None:
    values = np.array([[0, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    found = [load_rgb(tmp_path / "x.png").getpixel((k, 0))[0] for k in range(3)]
    assert found[0] == 0 and abs(found[1] - 128) <= 1 and found[2] == 255


def test_numbers_without_an_agreed_range_are_refused(tmp_path: Path) -> None:
    dark = np.array([[0, 100, 200]], dtype=np.uint16)  # dark, and not a bright picture of 8 bits
    Image.fromarray(dark).save(tmp_path / "x.png")
    assert load_rgb(tmp_path / "x.png").getpixel((2, 0)) == (1, 1, 1)
    Image.fromarray(np.array([[0.5]], dtype=np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(UnreadableImage, match="floating-point pixels"):
        load_rgb(tmp_path / "x.tif")
    Image.fromarray(np.array([[-5]], dtype=np.int32)).save(tmp_path / "y.tif")
    with pytest.raises(UnreadableImage, match="not numbers of 16 bits"):
        load_rgb(tmp_path / "y.tif")


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    picture("RGB").save(tmp_path / "x.jpg", exif=exif)
    assert load_rgb(tmp_path / "x.jpg").size == (6, 8)


def broken(folder: Path) -> dict[str, Path]:
    whole = folder / "whole.jpg"
    picture("RGB", (64, 64)).save(whole)
    made = {n: folder / f"{n}.jpg" for n in ("empty", "cut", "text", "absent")}
    made["empty"].touch()
    made["cut"].write_bytes(whole.read_bytes()[:300])
    made["text"].write_text("this is no image", encoding="utf-8")
    return made


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", "the file is empty"),
        ("cut", "[Tt]runcated|not processed"),
        ("text", "cannot identify image file .the content is none of JPEG, PNG, "),
        ("absent", "there is no such file"),
    ],
)
def test_broken_files_are_refused_with_their_path(tmp_path: Path, name: str, words: str) -> None:
    path = broken(tmp_path)[name]
    with pytest.raises(UnreadableImage, match=words) as told:
        load_rgb(path)
    assert str(told.value).startswith(str(path))


def test_very_large_images_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    picture("RGB", (100, 100)).save(tmp_path / "x.png")
    with pytest.raises(UnreadableImage, match="100 x 100 are more than 9999 pixels"):
        load_rgb(tmp_path / "x.png", max_pixels=9999)


def test_a_scan_lists_what_is_broken_and_training_stops_at_it(tmp_path: Path) -> None:
    made = broken(tmp_path)
    paths = [tmp_path / "whole.jpg", *made.values()]
    found = scan(paths)
    assert set(found) == set(made.values())
    data = ImageFiles(paths, [0] * 5)
    image, label = data[0]
    assert image.mode == "RGB" and label == 0 and len(data) == 5
    with pytest.raises(UnreadableImage, match="empty"):
        data[1]
    with pytest.raises(ValueError, match="5 paths, but 2 targets"):
        ImageFiles(paths, [0, 1])


def test_a_list_hash_does_not_depend_on_the_order() -> None:
    lines: list[Any] = ["b", "a"]
    assert list_hash(lines) == list_hash(lines[::-1]) != list_hash(["ab"])
