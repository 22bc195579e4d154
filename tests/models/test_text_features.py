"""Features of texts are open_clip's to the bit, and computed once for the same content."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.model import CLIP
from torch import Tensor

from avalanche_proxyfda.models import TextHead, text_features, text_head
from avalanche_proxyfda.models.text_key import text_device, tower_hash
from benchmarks.models import tiny_clip

CLASSES = [f"thing {k}" for k in range(12)]  # more than a batch of open_clip
TEMPLATES = ("{}", "a picture of {}")


class Counted:
    """A model whose forwards of texts are counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clip: CLIP = tiny_clip.load()
        self.calls = 0
        whole = CLIP.encode_text

        def counted(model: CLIP, *arguments: Any, **options: Any) -> Tensor:
            self.calls += 1
            features: Tensor = whole(model, *arguments, **options)
            return features

        monkeypatch.setattr(CLIP, "encode_text", counted)

    def head(self, classes: list[str] = CLASSES, **options: Any) -> TextHead:
        return text_head(self.clip, tiny_clip.tokenize, classes, TEMPLATES, **options)


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    text_features._kept.clear()
    yield
    text_features._kept.clear()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def as_open_clip(clip: CLIP) -> TextHead:
    with torch.no_grad():
        weight = open_clip.build_zero_shot_classifier(
            clip, tiny_clip.tokenize, CLASSES, list(TEMPLATES)
        )
        return TextHead(weight.T, float(clip.logit_scale.exp()))


def same(one: TextHead, other: TextHead) -> bool:
    return torch.equal(one.weight, other.weight) and torch.equal(one.scale, other.scale)


def test_the_bits_are_open_clips_and_the_second_head_costs_no_forward(
    counted: Counted, tmp_path: Path
) -> None:
    expected = as_open_clip(counted.clip)
    counted.calls = 0
    assert same(counted.head(cache_dir=tmp_path / "new"), expected) and counted.calls == 2
    again = counted.head()
    assert same(again, expected) and counted.calls == 2  # from memory
    again.weight.zero_()
    assert same(counted.head(), expected)  # a head owns its weight
    text_features._kept.clear()
    assert same(counted.head(cache_dir=tmp_path / "new"), expected) and counted.calls == 2
    (file,) = (tmp_path / "new").iterdir()
    assert file.name.startswith("texts-") and file.suffix == ".safetensors"


def test_other_content_is_computed_anew(counted: Counted) -> None:
    first = counted.head()
    assert counted.calls == 2
    with torch.no_grad():  # the image tower is another matter
        counted.clip.visual.proj.add_(1)
        counted.clip.visual.train()
    counted.head()
    assert counted.calls == 2 and counted.clip.visual.training
    changes = [
        lambda: counted.head(CLASSES[::-1]),
        lambda: text_head(counted.clip, tiny_clip.tokenize, CLASSES, ("{}", "a drawing of {}")),
        lambda: text_head(
            counted.clip, lambda texts: tiny_clip.tokenize([t.upper() for t in texts]), CLASSES
        ),
    ]
    for number, change in enumerate(changes):
        change()
        assert counted.calls == 4 + 2 * number
    with torch.no_grad():
        counted.clip.token_embedding.weight.mul_(1.5)
    changed = counted.head()
    assert counted.calls == 10 and not torch.equal(changed.weight, first.weight)
    known = tower_hash(counted.clip)
    counted.clip.transformer.resblocks[0].attn.num_heads *= 2
    assert tower_hash(counted.clip) != known


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_a_tower_on_the_device_is_not_copied(
    name: str, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> None:
        raise AssertionError("the tower was copied")

    monkeypatch.setattr(text_features.copy, "deepcopy", refuse)
    head = counted.head(device=torch.device(name))
    assert same(head, as_open_clip(counted.clip))


@pytest.mark.parametrize("harm", ["torn", "other key", "other numbers"])
def test_a_damaged_file_is_written_again(
    harm: str, counted: Counted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = counted.head(cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    damaged = {
        "torn": whole[:-100],
        "other key": whole.replace(b"thing 3", b"thing 4"),
        "other numbers": whole[:-4] + b"\0\0\0\0",
    }[harm]
    assert damaged != whole
    file.write_bytes(damaged)
    text_features._kept.clear()
    with caplog.at_level(logging.WARNING):
        assert same(counted.head(cache_dir=tmp_path), expected) and counted.calls == 4
    assert "is not used, and its features are computed again" in caplog.text
    assert file.read_bytes() == whole


def test_a_process_keeps_few_sets(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_features, "MOST", 2)
    for name in ("a", "b", "a", "c"):
        counted.head([name])
    assert counted.calls == 3 and len(text_features._kept) == 2
    counted.head(["a"])
    assert counted.calls == 3
    counted.head(["b"])
    assert counted.calls == 4


def test_a_copy_without_the_image_tower_computes_elsewhere() -> None:
    clip, meta = tiny_clip.load(), torch.device("meta")
    clip.visual.to(meta)  # as the tower of a model that has moved
    clip.visual.train()
    assert text_device(clip) == torch.device("cpu")
    tokens = [tiny_clip.tokenize([t.format("x") for t in TEMPLATES])]
    features = text_features._computed(clip, tokens, ["x"], TEMPLATES, meta)
    assert features.is_meta and features.shape[1] == 1
    assert text_device(clip) == torch.device("cpu") and clip.visual.training
    text_head(clip, tiny_clip.tokenize, ["x"])  # nothing moved, and nothing is mixed


def test_the_modes_come_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tiny_clip.load().train()
    modes = [module.training for module in clip.modules()]

    def full(*_: Any, **__: Any) -> Tensor:
        assert not clip.training
        raise MemoryError

    monkeypatch.setattr(clip, "encode_text", full)
    with pytest.raises(MemoryError):
        text_head(clip, tiny_clip.tokenize, ["x"])
    assert [module.training for module in clip.modules()] == modes and clip.training


def test_a_folder_that_cannot_be_made_is_named(counted: Counted, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match="file/texts-"):
        counted.head(cache_dir=tmp_path / "file")
