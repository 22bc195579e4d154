"""uint8 views against PIL's: the same pixels to within one step of 255, odd images included."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision import transforms
from torchvision.transforms import v2

from avalanche_proxyfda._keys import keyed, uniform
from avalanche_proxyfda.models.preprocessing import eval_view
from avalanche_proxyfda.pixels import decode, pixel_views
from avalanche_proxyfda.pixels.decode import JPEG, PIL, REDUCED, Opened, denominator_for
from avalanche_proxyfda.pixels.finish import resize
from avalanche_proxyfda.pixels.geometry import RandomCrop, Resizing
from avalanche_proxyfda.pixels.jpeg import jpeg_header
from avalanche_proxyfda.pixels.views import CROPS
from avalanche_proxyfda.streams.files.encoded import EncodedImage
from avalanche_proxyfda.streams.files.images import UnreadableImage
from tests.pixels.pictures import HALF, clip_view, encoded, picture, timm_view

STEP = 2 / 255
"""One step of a uint8 pixel in images of mean and std 1/2."""


@pytest.mark.parametrize("size", [(50, 37), (37, 50), (40, 40), (16, 90), (16, 16), (30, 12)])
@pytest.mark.parametrize(
    "view",
    [
        clip_view(),
        clip_view(resize_mode="squash"),
        timm_view(),
        eval_view({"library": "torchvision", "size": 16, "mean": HALF, "std": HALF}),
    ],
    ids=["open_clip", "squash", "timm", "torchvision"],
)
def test_the_largest_difference_to_pil_is_one_step(view: Any, size: tuple[int, int]) -> None:
    image = encoded(picture(3, size), quality=95)
    pixels = pixel_views(view)[1](image)
    assert pixels.way == JPEG
    difference = (pixels.image() - view(image.rgb())).abs()
    assert float(difference.max()) <= 1.01 * STEP
    assert float(difference.mean()) < 0.25 * STEP


def test_floats_have_the_bits_of_pils_path_where_the_pixels_are_equal() -> None:
    image = encoded(picture(1, (16, 16)))  # no resize
    view = clip_view(16)
    assert torch.equal(pixel_views(view)[1](image).image(), view(image.rgb()))


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(16, 21), (48, 30), (37, 9), (5, 50), (1, 7)])
def test_a_resize_has_the_bits_of_planes_and_stays_in_rows_of_pixels(
    kind: Any, size: tuple[int, int]
) -> None:
    whole = decode.decode_jpeg(encoded(picture()).content)
    for image in (whole, whole[:, 3:20, 7:44], whole[:, :1, :1]):
        planes = image.contiguous().unsqueeze(0)
        expected = interpolate(planes, size, mode=kind, antialias=True, align_corners=False)[0]
        found = resize(image, size, kind)
        assert torch.equal(found, expected)
        assert found.permute(1, 2, 0).is_contiguous()  # why it is fast, and a batch's copy too


def test_a_decoded_jpeg_has_pils_bits_and_issues_no_warning() -> None:
    image = encoded(picture())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded = decode.decode_jpeg(image.content)
    assert np.array_equal(decoded.permute(1, 2, 0).numpy(), np.asarray(image.rgb()))


def rotated() -> EncodedImage:
    exif = Image.Exif()
    exif[274] = 6
    return encoded(picture(), exif=exif.tobytes())


def upright() -> EncodedImage:
    exif = Image.Exif()
    exif[274], exif[305] = 1, "a camera"
    return encoded(picture(), exif=exif.tobytes())


ODD = {
    "RGBA": (lambda: encoded(_transparent(), "PNG"), PIL),
    "palette": (lambda: encoded(picture().convert("P"), "GIF"), PIL),
    "16 bit": (lambda: encoded(_sixteen(), "PNG"), PIL),
    "PNG": (lambda: encoded(picture(), "PNG"), PIL),
    "CMYK": (lambda: encoded(picture().convert("CMYK")), PIL),
    "EXIF rotation": (rotated, PIL),
    "EXIF, upright": (upright, JPEG),
    "grey": (lambda: encoded(picture().convert("L")), JPEG),
    "progressive": (lambda: encoded(picture(), progressive=True), JPEG),
    "4:4:4": (lambda: encoded(picture(), subsampling=0), JPEG),
}


def _transparent() -> Image.Image:
    image = picture().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def _sixteen() -> Image.Image:
    return Image.fromarray((np.asarray(picture().convert("L")).astype(np.uint16)) * 257)


@pytest.mark.parametrize("kind", list(ODD))
def test_odd_images_look_as_by_pil_and_their_way_is_known(kind: str) -> None:
    make, way = ODD[kind]
    image, view = make(), clip_view()
    pixels = pixel_views(view)[1](image)
    assert pixels.way == way
    assert float((pixels.image() - view(image.rgb())).abs().max()) <= 1.01 * STEP


def test_an_image_of_pil_is_taken_too() -> None:
    view = clip_view()
    pixels = pixel_views(view)[1](picture())
    assert pixels.way == PIL
    assert float((pixels.image() - view(picture())).abs().max()) <= 1.01 * STEP


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.05])
def test_a_damaged_jpeg_is_refused_by_name(keep: float) -> None:
    whole = encoded(picture())
    cut = EncodedImage(whole.content[: int(len(whole.content) * keep)].copy(), "cut.jpg")
    with pytest.raises(UnreadableImage, match=r"^cut\.jpg: "):
        pixel_views(clip_view())[1](cut)


def test_a_jpeg_above_the_bound_is_refused() -> None:
    image = encoded(picture())
    with pytest.raises(UnreadableImage, match="50 x 37 are more than 100 pixels"):
        Opened(EncodedImage(image.content, "large.jpg", max_pixels=100))


def test_a_large_jpeg_is_read_at_a_reduced_size_to_within_a_few_steps() -> None:
    image, view = encoded(picture(2, (400, 300)), quality=95), clip_view(32)
    pixels = pixel_views(view)[1](image)
    assert pixels.way == REDUCED
    difference = (pixels.image() - view(image.rgb())).abs()
    assert float(difference.max()) <= 4.01 * STEP
    assert float(difference.mean()) <= STEP
    assert [denominator_for(s, 224) for s in (447, 896, 1792, 3584)] == [1, 2, 4, 8]


def test_a_header_is_read_and_a_hostile_one_is_not() -> None:
    content = encoded(picture()).content
    header = jpeg_header(content)
    assert header is not None and (header.width, header.height, header.plain) == (50, 37, True)
    for length in range(0, 200, 7):
        assert jpeg_header(content[:length]) in (None, header)
    random = np.random.default_rng(0)
    for _ in range(50):
        noise = content.copy()
        noise[2 : 2 + 20] = random.integers(0, 256, 20)
        jpeg_header(noise)  # ends, and raises nothing


# ---- random views -----------------------------------------------------------------------


def test_a_random_view_is_a_function_of_its_key() -> None:
    view, image = pixel_views(clip_view(), "flip-crop")[0], encoded(picture())

    def seen(*key: int) -> Any:
        with keyed(*key):
            return view(image).row

    torch.manual_seed(1)
    first = seen(0, 1, 2)
    torch.manual_seed(2)
    assert torch.equal(first, seen(0, 1, 2))
    assert not torch.equal(first, seen(0, 2, 2))
    torch.manual_seed(1)
    free = view(image).row  # without a key: torch's stream
    torch.manual_seed(1)
    assert torch.equal(free, view(image).row)


def test_a_random_view_shows_the_box_of_its_key() -> None:
    view, image = pixel_views(clip_view(), "flip-crop")[0], encoded(picture(), quality=95)
    boxes = []
    for number in range(20):
        with keyed("sample", 0, 1, number):
            top, left, height, width, flip = CROPS["flip-crop"].box(37, 50, uniform())
        with keyed("sample", 0, 1, number):
            seen = view(image).row
        part = image.rgb().crop((left, top, left + width, top + height))
        shown = np.asarray(part.resize((16, 16), Image.Resampling.BICUBIC)).astype(int)
        difference = np.abs(seen.numpy() - (shown[:, ::-1] if flip else shown))
        assert difference.max() <= 2 and difference.mean() < 0.3
        boxes.append((top, left, height, width, flip))
    assert boxes[:3] == [
        (1, 20, 31, 29, 1),
        (2, 26, 24, 23, 1),
        (13, 0, 14, 13, 0),
    ]  # another order of draws would change what a seed means


def test_boxes_are_distributed_as_torchvisions() -> None:
    ours, size = RandomCrop((0.08, 1.0), flip=True), (37, 50)
    draws = np.random.default_rng(0).random
    boxes = np.array([ours.box(*size, lambda: float(draws())) for _ in range(4000)])
    torch.manual_seed(0)
    blank = torch.zeros(3, *size)
    draw = transforms.RandomResizedCrop.get_params
    theirs = np.array([draw(blank, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(800)])
    error = 4 * theirs.std(0) / 800**0.5
    assert (np.abs(boxes[:, :4].mean(0) - theirs.mean(0)) < error).all()
    assert (np.abs(boxes[:, :4].std(0) - theirs.std(0)) < error).all()
    assert abs(boxes[:, 4].mean() - 0.5) < 0.03
    assert (boxes[:, 0] + boxes[:, 2]).max() <= 37 and (boxes[:, 1] + boxes[:, 3]).max() <= 50


def test_a_box_of_a_long_image_falls_back_to_the_centre() -> None:
    box = RandomCrop((0.9, 1.0)).box(10, 1000, lambda: 0.5)
    assert box == (0, 493, 10, 13, 0)


# ---- refusals ---------------------------------------------------------------------------


def test_views_without_a_translation_are_refused() -> None:
    with pytest.raises(ValueError, match=r"library.*pipeline='pil'"):
        pixel_views(clip_view(), "library")  # type: ignore[arg-type]
    grey = v2.Compose([v2.Resize(16), v2.Grayscale(), v2.Normalize(HALF, HALF)])
    with pytest.raises(ValueError, match="step Grayscale"):
        pixel_views(grey)
    with pytest.raises(ValueError, match="needs a resize"):
        pixel_views(v2.Normalize(HALF, HALF))
    lanczos = v2.Resize((16, 16), interpolation=v2.InterpolationMode.NEAREST)
    with pytest.raises(ValueError, match="nearest"):
        pixel_views(v2.Compose([lanczos, v2.Normalize(HALF, HALF)]))
    oblong = v2.Compose([v2.Resize((16, 8)), v2.Normalize(HALF, HALF)])
    with pytest.raises(ValueError, match="square views alone"):
        pixel_views(oblong)
    with pytest.raises(ValueError, match="short=8"):
        Resizing(8, 16)
    with pytest.raises(ValueError, match="scale="):
        RandomCrop((0.0, 1.0))


def test_a_missing_decoder_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> None:
        raise RuntimeError("no such operator image::decode_jpeg")

    decode.check_decoder.cache_clear()
    monkeypatch.setattr(decode, "decode_jpeg", absent)
    with pytest.raises(ImportError, match="pipeline='pil'"):
        pixel_views(clip_view())
    decode.check_decoder.cache_clear()
