"""The embedded data sets and the model: real, disjoint, drawn the same every time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.models import tiny_clip
from benchmarks.models.tiny_clip.pretrain import caption_accuracy, corpus
from benchmarks.streams.concepts.data import (
    COUNTS,
    PANEL,
    PANEL_TRAIN,
    SEQUENCE,
    concept,
    concepts,
    embedded_hash,
    to_input,
)
from benchmarks.streams.concepts.render import KINDS, class_names, draw
from benchmarks.streams.kinds.concepts import build
from tests.benchmarks.records import recipe

NO_VIEWS: Any = None
"""The embedded sets hold inputs of the model, so their views are not used."""


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


@pytest.mark.parametrize("name", [*SEQUENCE, *PANEL])
def test_splits_are_disjoint_balanced_and_complete(name: str) -> None:
    train, validation, test = (concept(name, s) for s in ("train", "validation", "test"))
    for split, data in (("train", train), ("validation", validation), ("test", test)):
        few = name in PANEL and split == "train"
        assert len(data) == (PANEL_TRAIN if few else COUNTS[split])
        assert data.images.shape[1:] == (3, 32, 32)
        assert set(data.targets) == set(range(len(data.classes)))
        assert data.images.min() >= -1 and data.images.max() <= 1
    parts = [rows(d.images) for d in (train, validation, test)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


def test_more_training_images_are_other_drawings_and_the_same_tests() -> None:
    usual, more = (concept("greek", "train", count) for count in (None, 1600))
    assert len(more) == 1600 and set(more.targets) == set(usual.targets)
    assert not rows(usual.images) & rows(more.images)
    for split in ("validation", "test"):
        assert concept("greek", split, 1600) is concept("greek", split)
        assert not rows(more.images) & rows(concept("greek", split).images)
    assert concept("greek", "train") is usual
    assert embedded_hash("greek") == embedded_hash("greek", None) != embedded_hash("greek", 1600)
    few = concept("digits", "train", 100)
    assert torch.equal(few.images, concept("digits", "train").images[:100])
    with pytest.raises(ValueError, match=r"stream.train_images=900: .* there are 800 of them"):
        concept("digits", "train", 900)


def test_a_run_has_the_training_images_that_are_asked_for() -> None:
    sets: dict[str, Any] = {"stream__sets": ["greek", "textures"], "panel__sets": ["colours"]}
    asked = recipe("lp-ft", stream__train_images=120, **sets)
    stream = build(asked, NO_VIEWS)
    assert [len(each.dataset) for each in stream.train] == [120, 120]
    assert [each["train"] for each in stream.summary["sets"]] == [120, 120]
    usual = recipe("lp-ft", **sets)
    assert build(usual, NO_VIEWS).summary["split_sha256"] != stream.summary["split_sha256"]
    assert asked.identity != usual.identity


def test_the_corpus_shares_no_picture_with_the_stream() -> None:
    pixels, captions = corpus(200, progress=False)
    seen = rows(to_input(pixels))
    for name in KINDS:
        assert not seen & rows(concept(name, "test").images)
    assert len(set(captions)) > 150


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_depend_on_the_seed_alone_and_show_their_class(kind: str) -> None:
    first, again, other = (draw(kind, 1, np.random.default_rng(s)) for s in (3, 3, 4))
    assert np.array_equal(first.pixels, again.pixels) and first.details == again.details
    assert not np.array_equal(first.pixels, other.pixels)
    assert class_names(kind)[1] == first.subject
    assert first.pixels.std() > 3


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="name='cats' is unknown"):
        concept("cats", "test")
    with pytest.raises(ValueError, match="split='dev' is unknown"):
        concept("digits", "dev")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="label=10 of kind='shapes'"):
        draw("shapes", 10, np.random.default_rng(0))


def test_the_benchmark_has_one_task_a_data_set() -> None:
    benchmark = concepts("validation")
    assert len(benchmark.train_stream) == len(SEQUENCE)
    for number, (train, test) in enumerate(
        zip(benchmark.train_stream, benchmark.test_stream, strict=True)
    ):
        image, label, task = train.dataset[0]
        assert image.shape == (3, 32, 32) and task == number
        assert label == concept(SEQUENCE[number], "train").targets[0]
        assert len(test.dataset) == COUNTS["validation"]


def test_tokens_are_bytes_and_end_with_the_largest_id() -> None:
    ids = tiny_clip.tokenize(["ab", "é"], context_length=6)
    assert ids.tolist() == [[98, 99, 257, 0, 0, 0], [196, 170, 257, 0, 0, 0]]
    with pytest.raises(ValueError, match=r"texts\[0\]='abcdef' has 6 bytes; at most 5 fit"):
        tiny_clip.tokenize(["abcdef"], context_length=6)


def test_the_weights_are_small_and_know_their_captions() -> None:
    assert tiny_clip.WEIGHTS.stat().st_size <= 4 * 2**20
    model = tiny_clip.load()
    assert not model.training
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert caption_accuracy(model, 256) > 0.7  # chance is 1 / 128


def test_missing_weights_say_how_to_make_them(tmp_path: object) -> None:
    from pathlib import Path

    with pytest.raises(FileNotFoundError, match=r"python -m benchmarks.models.tiny_clip.pretrain"):
        tiny_clip.load(Path(str(tmp_path)) / "none.safetensors")
