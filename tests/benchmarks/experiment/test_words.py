"""Heads of a run have each set's own words and prompts, and agree with open_clip's recipe."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.config import Config, plain, read
from benchmarks.experiment.prepare import prepare
from benchmarks.experiment.run import run
from benchmarks.models import tiny_clip
from benchmarks.streams.concepts.data import concept
from benchmarks.streams.registry import load_stream
from benchmarks.streams.texts.known import SetTexts
from benchmarks.streams.texts.lookup import panel_texts, stream_texts
from tests.benchmarks.miniature import config, views_of

PROMPTS = ["a picture of {}", "{}"]
COLOURS = concept("colours", "test").classes


def own(data: Path, file: Path, words: dict[str, Any], **changes: Any) -> Config:
    """A run on the photographs, with a file of words."""
    file.write_text(json.dumps(words), encoding="utf-8")
    head = {"kind": "zero-shot", "prompts": "per-set", "words": str(file)}
    sets = {"kind": "sequence", "sets": ["folder:photo"]}
    return config(data, head=head, **{"stream": sets, **changes})


def open_clips_logits(images: Any, words: list[str], templates: list[str]) -> tuple[Any, Any]:
    """Logits and labels of open_clip's zero-shot recipe: no code of the project but the model."""
    clip = tiny_clip.load()
    logits, labels = [], []
    with torch.no_grad():
        classifier = open_clip.build_zero_shot_classifier(
            clip, tiny_clip.tokenize, words, templates
        )
        for batch, targets, *_ in DataLoader(images, batch_size=50):
            features = clip.encode_image(batch, normalize=True)
            logits.append(clip.logit_scale.exp() * features @ classifier)
            labels.append(targets)
    return torch.cat(logits), torch.cat(labels)


def open_clips_accuracy(images: Any, words: list[str], templates: list[str]) -> float:
    logits, labels = open_clips_logits(images, words, templates)
    return int((logits.argmax(dim=1) == labels).sum()) / len(labels)


def test_the_first_row_is_open_clips_zero_shot_recipe(data: Path, tmp_path: Path) -> None:
    labels = sorted(path.name for path in (data / "photo" / "train").iterdir())
    words, things = [f"a red {name}" for name in labels], ["{}", "a {} thing"]
    photo = {"classes": dict(zip(labels, words, strict=True)), "templates": PROMPTS}
    colours = {"classes": [*COLOURS], "templates": things}
    made = own(data, tmp_path / "w.json", {"folder:photo": photo, "colours": colours})
    record: Any = run(made)
    ready = prepare(made)
    test = ready.stream.test[0].dataset.eval()
    assert record.outcome.accuracy[0] == (open_clips_accuracy(test, words, PROMPTS),)
    with torch.no_grad():
        images = torch.stack([item[0] for item in test])
        found = ready.model.eval()(images, torch.zeros(len(test), dtype=torch.long))
    expected, _ = open_clips_logits(test, words, PROMPTS)
    assert torch.allclose(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
    seen = ready.panel[0].images.test
    first = record.outcome.panel[0].zero_shot["test"]["colours"]
    assert first == open_clips_accuracy(seen, [*COLOURS], things)
    assert first != open_clips_accuracy(seen, [*COLOURS][::-1], things)


def test_a_run_keeps_the_content_and_no_place(data: Path, tmp_path: Path) -> None:
    private = f"folder:{data / 'photo'}"
    photo = {"classes": ["a", "b", "c"], "templates": ["{}"]}
    stream = {"kind": "sequence", "sets": [private]}
    elsewhere = {"data": str(tmp_path), "device": "cpu"}
    made = own(data, tmp_path / "w.json", {private: photo}, stream=stream, where=elsewhere)
    content = plain(made)
    assert content["head"]["words"] == {"folder:photo": photo}
    assert read(content).identity == made.identity
    near = own(data, tmp_path / "w.json", {"folder:photo": photo})
    assert near.identity == made.identity  # one set, wherever it lies
    other = own(data, tmp_path / "w.json", {"folder:photo": {**photo, "classes": ["a", "b", "d"]}})
    assert other.identity != near.identity  # under one path, other words
    with pytest.raises(ValueError, match="names '/a/b' by an absolute path, and it is no data set"):
        own(data, tmp_path / "w.json", {"folder:/a/b": photo})
    both = {"folder:photo": photo, private: photo}
    with pytest.raises(ValueError, match="names the data set 'folder:photo' twice"):
        own(data, tmp_path / "w.json", both, stream=stream, where=elsewhere)


def test_sets_without_prompts_of_their_own_are_refused_by_name(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "w.json"
    whole = {"classes": ["a", "b", "c"], "templates": ["{}"]}
    with pytest.raises(ValueError, match=r"folder:photo: clip-benchmark has no .*prompts=shared"):
        prepare(own(data, file, {"colours": {"templates": ["{}"]}}))
    with pytest.raises(ValueError, match=r"colours: clip-benchmark has no .*prompts=shared"):
        prepare(own(data, file, {"folder:photo": whole}))
    short = {"classes": ["a", "b"], "templates": ["{}"]}
    words = r"folder:photo: the class names do not match .*: 2 class names \(a, b\) and 3 labels"
    with pytest.raises(ValueError, match=words):
        prepare(own(data, file, {"folder:photo": short}, panel={"sets": []}))
    strange = {"classes": {"dog": "a", "cat": "b", "hen": "c"}, "templates": ["{}"]}
    with pytest.raises(
        ValueError, match=r"3 class names \(dog, cat, hen\) and 3 labels \(cat, dog"
    ):
        prepare(own(data, file, {"folder:photo": strange}, panel={"sets": []}))
    vain = {"folder:photo": whole, "folder:foto": whole}
    with pytest.warns(UserWarning, match="has folder:foto, and this run has folder:photo alone"):
        prepare(own(data, file, vain, panel={"sets": []}))


def test_words_without_prompts_take_the_shared_ones(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text("folder:photo: {classes: {owl: no, dog: on, cat: 'a: b'}}", encoding="utf-8")
    head = {"kind": "zero-shot", "words": str(file), "templates": ["a {}"]}
    made = config(data, head=head, stream={"kind": "sequence", "sets": ["folder:photo"]})
    ready = prepare(made)
    (texts,) = stream_texts(made, ready.stream)
    assert texts == SetTexts(("a: b", "on", "no"), ("a {}",))  # by label: cat, dog, owl
    assert panel_texts(made, ready.panel)[0]["colours"] == SetTexts(COLOURS, ("a {}",))
    numbered = replace(ready.panel[0], classes=tuple(map(str, range(43))), name="GTSRB")
    _, without = panel_texts(made, [numbered])
    assert without["colours"].startswith("GTSRB: the 43 classes have numbers for names")
    assert "head.prompts=per-set, which has words for GTSRB" in without["colours"]
    unnamed = replace(ready.stream, sets=(), names=("x",), tasks=False)
    assert stream_texts(made, unnamed)[0].words == ("cat", "dog", "owl")


@pytest.mark.parametrize("text", ["frozen", "full"])
def test_training_may_take_the_first_prompt_of_each_set(
    data: Path, tmp_path: Path, text: str
) -> None:
    prompts = {"folder:photo": ["a {}", "{}!"], "folder:sketch": ["{} drawn", "a {}", "the {}"]}
    words = {name: {"templates": each} for name, each in prompts.items()}
    stream = {"kind": "sequence", "sets": list(prompts)}
    towers = {"train": {"text": text}}
    sets: Any = {"stream": stream, "backbone": towers, "panel": {"sets": []}}
    made = own(data, tmp_path / "w.json", words, **sets)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def logits(template: str | None, task: int, training: bool = True) -> torch.Tensor:
        head = replace(made.head, train_template=template)
        model = prepare(replace(made, head=head)).model.train(training)
        with torch.no_grad():
            found: torch.Tensor = model(image, torch.tensor([task]))
        return found

    for task, first in enumerate(("a {}", "{} drawn")):
        assert torch.equal(logits("first", task), logits(first, task))
        assert not torch.allclose(logits("first", task), logits(None, task))
        assert torch.equal(logits("first", task, False), logits(None, task, False))


@pytest.mark.skipif(find_spec("clip_benchmark") is None, reason="clip-benchmark is not installed")
def test_a_set_of_torchvision_has_its_own_ensemble_in_order_of_label(tmp_path: Path) -> None:
    labels = ["AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture"]
    labels += ["PermanentCrop", "Residential", "River", "SeaLake"]
    for label in labels:
        folder = tmp_path / "eurosat/2750" / label
        folder.mkdir(parents=True)
        for k in range(5):
            Image.new("RGB", (8, 8), (50 * k, 9 * len(label), 0)).save(folder / f"{k}.jpg")
    head = {"kind": "zero-shot", "prompts": "per-set"}
    sets = {"kind": "sequence", "sets": ["EuroSAT"]}
    made = config(tmp_path, head=head, stream=sets, panel={"sets": []})
    (texts,) = stream_texts(made, load_stream(made, views_of(made)))
    assert dict(zip(labels, texts.words, strict=True))["SeaLake"] == "lake or sea"
    assert texts.templates[1] == "a centered satellite photo of a {}."
    with pytest.raises(ValueError, match=r"satellite photo of .* bytes; at most 51 fit"):
        prepare(made)  # tiny-clip has a short context


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": {"classes": []}}, "classes must be texts that are not empty"),
        ({"a": {"classes": ["x", " "]}}, "classes must be texts that are not empty"),
        ({"a": {"classes": ["x", "x"]}}, "classes has 'x' twice"),
        ({"a": {"classes": [1, 2]}}, "Input should be a valid string"),
        ({"a": {"templates": []}}, "templates must be prompts, at least one"),
        ({"a": {"templates": ["a photo"]}}, "the template 'a photo' must hold {} once"),
        ({"a": {"templates": ["{} {}"]}}, "must hold {} once"),
        ({"a": {"templates": ["{} {c}"]}}, "must hold {} once"),
        ({"a": {"class": ["x"]}}, "a.class Unexpected keyword argument"),
        ([], "valid dictionary"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: Any, words: str) -> None:
    file = tmp_path / "w.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(words)):
        read({"head": {"words": str(file)}})


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.json is no file; a relative path lies in"):
        read({"head": {"words": "none.json"}, "where": {"data": str(tmp_path)}})
    for name, text in (("w.json", "{"), ("w.json", "[" * 100_000), ("w.yaml", "a: *b")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=f"head.words: {name} cannot be read"):
            read({"head": {"words": str(tmp_path / name)}})
