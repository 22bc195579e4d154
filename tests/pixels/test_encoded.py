"""Files of images, read undecoded: all bytes of them, or a refusal that names the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from avalanche_proxyfda.streams.files.encoded import EncodedImages
from avalanche_proxyfda.streams.files.images import ImageFiles, UnreadableImage
from tests.pixels.pictures import files


def test_the_content_is_the_whole_file_and_can_be_written_to(tmp_path: Path) -> None:
    data = files(tmp_path, 2)
    large = tmp_path / "large.jpg"
    large.write_bytes(os.urandom(300_001))  # more than a buffer of a file
    for path in (*data.paths, large):
        image, label = EncodedImages(ImageFiles([path], [1]))[0]
        assert image.content.tobytes() == path.read_bytes() and label == 1
        assert image.content.flags.writeable  # torch warns of memory that is not


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _absent(path: Path) -> None:
    """Leave the path free."""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_absent, "there is no such file"),
        (Path.touch, "the file is empty"),
        (_folder, "this is no file"),
        pytest.param(
            _pipe,
            "this is no file",
            marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders"),
        ),
    ],
)
def test_what_is_no_file_is_refused_by_name(tmp_path: Path, make: Any, words: str) -> None:
    path = tmp_path / "x.jpg"
    make(path)
    with pytest.raises(UnreadableImage, match=words) as refused:
        EncodedImages(ImageFiles([path], [0]))[0]
    assert str(refused.value).startswith(str(path))
