"""Reference data of a run: images, texts, counts, identity, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip import SimpleTokenizer
from open_clip.model import CLIP
from torch import nn

from avalanche_proxyfda import plugins
from benchmarks.config import Config, plain
from benchmarks.experiment import reference as module
from benchmarks.experiment.reference import load_reference
from benchmarks.experiment.run import run
from benchmarks.methods.plugins import checked, plugins_of
from benchmarks.models.backbone import build_backbone
from benchmarks.results.files import read_record, write_record
from benchmarks.results.identity import run_id_of
from tests.benchmarks.miniature import config, write_folder

SMALL = {"kind": "sequence", "sets": ["folder:own"]}
RUN: dict[str, Any] = {
    "method": "fda",
    "strength": 1.0,
    "stream": SMALL,
    "panel": {"sets": []},
    "options": {"reference_data": True, "feature_module": "tower"},
    "head": {"kind": "random"},
}


def made(data: Path, reference: dict[str, Any] | None = None, **changes: Any) -> Config:
    part = {"images": "procedural", "count": 40, "batch": 16} | (reference or {})
    where = {"data": str(data), "device": "cpu", "teacher_cache": "exact"}
    return config(data, **{**RUN, "where": where, "reference_data": part, **changes})


def test_a_run_counts_the_second_forward_and_keeps_the_identity(tmp_path: Path) -> None:
    write_folder(tmp_path / "own", ["a", "b"], (32, 32), "RGB", seed=0)
    record: Any = run(made(tmp_path))
    assert record.cost.student_forwards == 2 * record.cost.steps
    assert record.reference_data.images == 40
    assert record.reference_data.texts is None
    terms = record.outcome.loss_terms[0]
    assert any("FDA_reference_alignment" in name for name in terms)
    write_record(tmp_path / "record.json", record)
    assert read_record(tmp_path / "record.json").reference_data == record.reference_data


class _Stream:
    """The classes of a stream."""

    classes = (("cat", "dog"), ("cat", "red_fox"))
    names = ("a", "b")
    sets: tuple[str, ...] = ()
    added: tuple[int, ...] = ()
    tasks = True


def test_texts_are_features_of_the_backbone_s_tower(tmp_path: Path) -> None:
    backbone, stream = build_backbone(made(tmp_path)), _Stream()
    (tmp_path / "words.txt").write_text("a cat\nan owl\n", encoding="utf-8")
    counts, hashes = {}, set()
    for name in ("classes", "random", "words.txt"):
        part = {"texts": name}
        loaded = load_reference(made(tmp_path, part), backbone, stream, nn.Linear(1, 1))  # type: ignore[arg-type]
        texts = loaded.data.texts
        assert texts is not None
        counts[name], dim = texts.shape
        assert dim == 128
        assert not texts.requires_grad
        assert len(texts.unique(dim=0)) == counts[name]  # no two texts are the same
        assert loaded.about.texts == counts[name]
        hashes.add(loaded.about.texts_sha256)
    assert counts == {"classes": 3, "random": 80, "words.txt": 2}
    assert len(hashes) == 3


def test_many_texts_are_encoded_a_part_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of the text tower does not grow with a file of texts."""
    sizes: list[int] = []
    encode = CLIP.encode_text

    def counted(self: Any, tokens: torch.Tensor, *given: Any) -> torch.Tensor:
        sizes.append(len(tokens))
        rows: torch.Tensor = encode(self, tokens, *given)
        return rows

    monkeypatch.setattr(CLIP, "encode_text", counted)
    config = made(tmp_path, {"texts": "random"})
    backbone = build_backbone(config)
    found = []
    for most in (module._TEXTS_AT_ONCE, 30):
        monkeypatch.setattr(module, "_TEXTS_AT_ONCE", most)
        found.append(load_reference(config, backbone, _Stream(), nn.Linear(1, 1)))  # type: ignore[arg-type]
    whole, parts = found
    assert sizes == [80, 30, 30, 20]
    assert whole.data.texts is not None
    assert parts.data.texts is not None
    torch.testing.assert_close(parts.data.texts, whole.data.texts)
    assert parts.about == whole.about


def test_texts_of_classes_are_those_of_the_heads(tmp_path: Path) -> None:
    """Sets with numbers for labels have their words in ``head.words`` or clip-benchmark."""
    backbone, stream = build_backbone(made(tmp_path)), _Stream()
    stream.classes = (tuple(map(str, range(11))), ("dog",))
    words = {"a": {"classes": [f"thing {chr(97 + k)}" for k in range(11)]}}
    own = made(tmp_path, {"texts": "classes"}, head={"kind": "random", "words": words})
    loaded = load_reference(own, backbone, stream, nn.Linear(1, 1))  # type: ignore[arg-type]
    assert loaded.about.texts == 12
    with pytest.raises(ValueError, match="the 11 classes have numbers for names"):
        load_reference(made(tmp_path, {"texts": "classes"}), backbone, stream, nn.Linear(1, 1))  # type: ignore[arg-type]


def test_a_text_that_the_tokenizer_would_cut_is_refused(tmp_path: Path) -> None:
    backbone = replace(build_backbone(made(tmp_path)), tokenizer=SimpleTokenizer(context_length=6))
    (tmp_path / "words.txt").write_text("a cat\na cat on a mat in a flat\n", encoding="utf-8")
    own = made(tmp_path, {"texts": "words.txt"})
    with pytest.raises(ValueError, match="'a cat on a mat in a flat' is longer than the context"):
        load_reference(own, backbone, _Stream(), nn.Linear(1, 1))  # type: ignore[arg-type]


def test_images_of_a_folder_are_some_of_its_images(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", ["a", "b"], (20, 20), "RGB", seed=0)  # 32 images
    backbone, stream, model = build_backbone(made(tmp_path)), _Stream(), nn.Linear(1, 1)
    about = {}
    for count in (20, 32, None):
        part = {"images": "folder:photos", "count": count}
        loaded = load_reference(made(tmp_path, part), backbone, stream, model)  # type: ignore[arg-type]
        about[count] = loaded.about
        batch = loaded.data.batch_of(0, 0, torch.device("cpu"))
        assert batch.images.shape == (16, 3, 32, 32)
    assert about[20].images == 20
    assert about[32] == about[None]
    assert about[20].images_sha256 != about[32].images_sha256


@pytest.mark.parametrize(
    ("part", "kind", "message"),
    [
        ({"images": "folder:none"}, FileNotFoundError, "no folder of reference images"),
        ({"images": "CIFAR11"}, ValueError, r"images='CIFAR11'.*CIFAR10.*procedural"),
        ({"count": 8}, ValueError, r"reference_data.images=procedural: batch=16 .* the 8 "),
        ({"texts": "none.txt"}, FileNotFoundError, "no file of reference texts"),
    ],
)
def test_reference_data_that_is_missing_is_refused(
    tmp_path: Path, part: dict[str, Any], kind: type[Exception], message: str
) -> None:
    backbone = build_backbone(made(tmp_path))
    with pytest.raises(kind, match=message):
        load_reference(made(tmp_path, part), backbone, _Stream(), nn.Linear(1, 1))  # type: ignore[arg-type]


def test_a_run_without_the_part_keeps_its_identity(tmp_path: Path) -> None:
    bare = config(tmp_path, stream=SMALL)
    without = {k: v for k, v in plain(bare).items() if k != "reference_data"}
    assert run_id_of(without) == run_id_of(plain(bare)) == bare.identity
    assert made(tmp_path).identity != made(tmp_path, {"seed": 1}).identity


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference_data": {}}, r"fda compares on reference data: set reference_data.images="),
        ({"options": {"reference_data": "yes"}}, "reference_data='yes': give true or false"),
        ({"method": "l2sp"}, "l2sp compares no features, so it takes no reference data"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        checked(made(tmp_path, **changes), "test")


@pytest.mark.parametrize("key", ["texts", "count"])
def test_keys_without_images_are_refused(tmp_path: Path, key: str) -> None:
    value = {"texts": "random", "count": 9}[key]
    with pytest.raises(ValueError, match=rf"reference_data.{key}={value} needs reference_data.im"):
        config(tmp_path, reference_data={key: value})


def test_a_method_on_reference_data_alone_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins.FDAPlugin, "reads_training_batch", False)
    monkeypatch.setattr(plugins.FDAPlugin, "reads_texts", True)
    plain_options = {"options": {"feature_module": "tower"}}
    with pytest.raises(ValueError, match="fda compares on reference data: set"):
        plugins_of(made(tmp_path, reference_data={}, **plain_options))
    with pytest.raises(ValueError, match=r"fda compares with reference texts: set"):
        plugins_of(made(tmp_path, **plain_options))
    (plugin,) = plugins_of(made(tmp_path, {"texts": "random"}, **plain_options))
    assert plugin.reference_data is not None
