"""Sources of reference data: the generator, folders, packs, and texts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from avalanche_proxyfda import ProceduralImages, ReferenceData
from avalanche_proxyfda.data.reference_images import image_folder, image_pack, torchvision_images
from avalanche_proxyfda.data.reference_texts import (
    random_tokens,
    texts_of_classes,
    texts_of_file,
)


def view(image: Image.Image) -> torch.Tensor:
    assert image.mode == "RGB"
    pixels = np.asarray(image.resize((8, 8)), np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)


# ---- the generator --------------------------------------------------------------------------


def test_an_image_depends_on_seed_and_number_alone() -> None:
    images, again = ProceduralImages(9, size=32), ProceduralImages(900, size=32)
    np.random.seed(3)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    for number in reversed(range(9)):
        pixels = images.pixels(number)
        assert pixels.shape == (32, 32, 3)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, again.pixels(number))
        assert not np.array_equal(pixels, ProceduralImages(9, size=32, seed=1).pixels(number))
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def _slope(images: list[Any]) -> float:
    """Exponent of the mean power over the spatial frequency, of the images' lightness."""
    window = np.hanning(64)[:, None] * np.hanning(64)
    down, across = np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None, :]
    ring = np.rint(np.hypot(down, across) * 64).astype(int)
    power = np.zeros(64)
    for image in images:
        light = image.mean(axis=2) - image.mean()
        energy = np.abs(np.fft.fft2(light * window)) ** 2
        power += np.bincount(ring.ravel(), (energy / energy.sum()).ravel(), 64)[:64]
    rings = np.arange(2, 30)
    mean = power[rings] / np.bincount(ring.ravel(), minlength=64)[rings]
    return float(np.polyfit(np.log(rings), np.log(mean), 1)[0])


def test_spectra_fall_as_those_of_photographs() -> None:
    images = ProceduralImages(90)
    pixels = [images.pixels(k) for k in range(90)]
    assert -2.6 < _slope(pixels) < -1.6  # photographs: about -2
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3))
    assert abs(_slope([*noise])) < 0.2


def test_images_have_light_colour_and_edges() -> None:
    images = [ProceduralImages(60).pixels(k).astype(float) for k in range(60)]
    leaves = images[::3]
    assert min(np.ptp(image) for image in leaves) > 60
    means = np.array([image.mean(axis=(0, 1)) for image in images])
    assert means.std(axis=0).min() > 20  # images differ in colour
    assert np.mean([(image == 255).mean() + (image == 0).mean() for image in images]) < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"count": 0}, "count=0"), ({"size": 3}, "size=3"), ({"seed": -1}, "seed=-1")],
)
def test_bad_numbers_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProceduralImages(**{"count": 2, **options})


def test_a_number_beyond_the_last_image_is_refused() -> None:
    with pytest.raises(IndexError, match="image 2 of 2"):
        ProceduralImages(2, size=8).pixels(2)


# ---- folders, packs, torchvision ------------------------------------------------------------


def test_a_folder_gives_all_images_below_it(tmp_path: Path) -> None:
    for name in ("b/two.png", "a/deep/one.jpg", ".hidden/no.png", "notes.txt"):
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.suffix == ".txt":
            place.write_text("no image", encoding="utf-8")
        else:
            Image.new("L", (9, 7), 200).save(place)
    found = image_folder(tmp_path, view)
    assert [path.name for path in found.data.paths] == ["one.jpg", "two.png"]
    batch = ReferenceData(found, batch=2).batch_of(0, 0, torch.device("cpu"))
    assert batch.images.shape == (2, 3, 8, 8)
    one = (tmp_path / "a/deep/one.jpg").read_bytes()
    (tmp_path / "a/deep/one.jpg").write_bytes(bytes([*one[:-3], one[-3] ^ 1, *one[-2:]]))
    assert image_folder(tmp_path, view).sha256 != found.sha256  # of the same size
    (tmp_path / "a/deep/one.jpg").write_bytes(one)
    assert image_folder(tmp_path, view).sha256 == found.sha256
    (tmp_path / "b" / "two.png").rename(tmp_path / "b" / "three.png")
    assert image_folder(tmp_path, view).sha256 != found.sha256


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    with pytest.raises(ValueError, match=r"holds no image among 1 files: give a folder with .bmp"):
        image_folder(tmp_path, view)
    with pytest.raises(FileNotFoundError, match="no folder of reference images at"):
        image_folder(tmp_path / "photos", view)
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(
        ValueError, match=r"link\.png: the link leads to no file: restore or remove"
    ):
        image_folder(tmp_path, view)


def test_a_pack_gives_its_training_images(tmp_path: Path) -> None:
    encoded = io.BytesIO()
    Image.new("RGB", (9, 7), (200, 0, 0)).save(encoded, "PNG")
    one = np.frombuffer(encoded.getvalue(), np.uint8)
    arrays: dict[str, Any] = {"class_names": np.array(["red"])}
    for split, count in (("train", 3), ("test", 1)):
        arrays[f"{split}_buf"] = np.concatenate([one] * count)
        arrays[f"{split}_off"] = np.arange(count + 1) * len(one)
        arrays[f"{split}_y"] = np.zeros(count, np.int64)
    np.savez(tmp_path / "red.npz", **arrays)
    found = image_pack(tmp_path / "red.npz", view)
    assert len(found) == 3
    assert found[2][:, 0, 0].tolist() == pytest.approx([200 / 255, 0, 0])
    assert len(found.sha256) == 64


def test_a_pack_and_torchvision_are_refused_where_they_are_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no pack at"):
        image_pack(tmp_path / "a.npz", view)
    with pytest.raises(ValueError, match=r"'CIFAR11' is no data set .* near names: CIFAR10"):
        torchvision_images("CIFAR11", tmp_path, view)
    with pytest.raises(FileNotFoundError, match="CIFAR10"):
        torchvision_images("CIFAR10", tmp_path, view)


# ---- texts ----------------------------------------------------------------------------------


def test_random_tokens_stand_between_a_start_and_an_end() -> None:
    state = torch.get_rng_state()
    tokens = random_tokens(80, 8, vocabulary=50, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert tokens.shape == (80, 10)
    assert set(tokens[:, 0].tolist()) == {48}
    assert set(tokens[:, -1].tolist()) == {49}
    assert tokens[:, 1:-1].unique().tolist() == list(range(48))  # all others, and neither end
    assert torch.equal(tokens, random_tokens(80, 8, vocabulary=50, seed=3))
    assert not torch.equal(tokens, random_tokens(80, 8, vocabulary=50, seed=4))
    assert random_tokens(1, 2, 9, ends=(0, 1))[0, [0, -1]].tolist() == [0, 1]


def test_texts_of_a_file_and_of_classes(tmp_path: Path) -> None:
    place = tmp_path / "words.txt"
    place.write_text("a cat\n\n  ein Kälbchen \n", encoding="utf-8")
    assert texts_of_file(place) == ["a cat", "ein Kälbchen"]
    assert texts_of_classes(["cat", "cat", "{}"]) == ["a photo of a cat.", "a photo of a {}."]


def test_bad_texts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes("Kälbchen".encode("latin-1"))
    for name, kind in (
        ("empty.txt", ValueError),
        ("latin.txt", ValueError),
        ("none.txt", FileNotFoundError),
    ):
        with pytest.raises(kind, match=name):
            texts_of_file(tmp_path / name)
    with pytest.raises(ValueError, match=r"template='a cat' lacks {}"):
        texts_of_classes(["cat"], "a cat")
    with pytest.raises(ValueError, match="names='cat' must be a sequence"):
        texts_of_classes("cat")
    for options in ({"count": 0}, {"length": 0}, {"vocabulary": 3}, {"ends": (0, 9)}):
        with pytest.raises(ValueError, match=next(iter(options))):
            random_tokens(**{"count": 2, "length": 3, "vocabulary": 9, **options})
