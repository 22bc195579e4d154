"""Data sets of CLIP's own evaluation on miniatures: Country211, FER2013, RenderedSST2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torchvision

from avalanche_proxyfda.streams.files.broken import without_broken
from avalanche_proxyfda.streams.files.datasets import load
from tests.streams.test_datasets import image


def country211(root: Path) -> None:
    for part, count in (("train", 3), ("valid", 1), ("test", 2)):
        for k, code in enumerate(("AD", "AE")):
            for n in range(count):
                image(root / "country211" / part / code / f"{n}.jpg", 40 * k)
            image(root / "country211" / part / code / "._0.jpg", 0)


def rendered_sst2(root: Path) -> None:
    for part, count in (("train", 4), ("valid", 2), ("test", 3)):
        for word in ("negative", "positive"):
            for n in range(count):
                image(root / "rendered-sst2" / part / word / f"{n}.png", 9)
            image(root / "rendered-sst2" / part / word / "._0.png", 9)


def fer2013(root: Path, *files: str) -> None:
    """Faces of each emotion; the three usages count where a file holds them all."""
    pixels = " ".join(["7"] * 48 * 48)
    lines = ["emotion,pixels,Usage"]
    for usage, count in (("Training", 3), ("PublicTest", 1), ("PrivateTest", 1)):
        lines += [f"{k},{pixels},{usage}" for k in range(7) for _ in range(count)]
    (root / "fer2013").mkdir()
    for file in files or ("fer2013.csv",):
        (root / "fer2013" / file).write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(autouse=True)
def without_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision take files of FER2013 that are not the real ones."""
    kind = torchvision.datasets.FER2013
    files = {key: (file, None) for key, (file, _) in kind._RESOURCES.items()}
    monkeypatch.setattr(kind, "_RESOURCES", files)


@pytest.mark.parametrize(
    ("name", "write", "classes", "each"),
    [
        ("Country211", country211, ("AD", "AE"), (3, 1, 2)),
        ("RenderedSST2", rendered_sst2, ("negative", "positive"), (4, 2, 3)),
        (
            "FER2013",
            fer2013,
            ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
            (2, 1, 2),
        ),
    ],
)
def test_splits_and_classes(
    tmp_path: Path,
    name: str,
    write: Callable[[Path], None],
    classes: tuple[str, ...],
    each: tuple[int, int, int],
) -> None:
    write(tmp_path)
    data = load(name, tmp_path)
    assert data.classes == classes
    for part, count in zip((data.train, data.validation, data.test), each, strict=True):
        assert Counter(part.targets) == dict.fromkeys(range(len(classes)), count)
        assert part[0][0].mode == "RGB" and part.place(0)
    assert without_broken(data)[1] == {}


def test_faces_without_labels_are_refused(tmp_path: Path) -> None:
    fer2013(tmp_path, "train.csv", "test.csv")
    with pytest.raises(ValueError, match=r"test\.csv has no labels; put fer2013\.csv"):
        load("FER2013", tmp_path)
