"""Miniatures that several files of tests use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.miniature import imagenet_wnids, write_folder, write_imagenet_r


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    pytest.importorskip("timm")
    write_imagenet_r(root / "imagenet-r", imagenet_wnids())
    write_folder(root / "stripes", ["one", "two", "three"], (50, 40), "RGB", 0)
    write_folder(root / "grey", ["a", "b"], (20, 33), "L", 1)
    for seed, name in enumerate(("photo", "sketch")):
        write_folder(root / name, ["dog", "cat", "owl"], (32, 32), "RGB", seed, 24)
    return root
