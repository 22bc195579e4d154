"""A tuned model in two files gives the logits of the model that was written."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import sys
import warnings
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.models import IncrementalClassifier
from PIL import Image
from torch import nn

from avalanche_proxyfda import _solvers, load_tuned, save_tuned, tuned
from avalanche_proxyfda.models import (
    Backbone,
    GrowingTextHead,
    SeenTextHead,
    TaskHeads,
    TextHead,
    TextHeads,
    UnitHeads,
    UnitLinear,
    load_backbone,
)
from benchmarks.models.backbone import build_backbone
from tests.benchmarks.records import recipe

NAMES = ("cat", "dog", "Straße")


def joined(backbone: Backbone, head: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    return nn.Sequential(OrderedDict(tower=backbone.tower, head=head)).eval()


@pytest.fixture
def tiny() -> Backbone:
    return build_backbone(recipe("finetune"))


def grown(head: Any) -> nn.Module:
    """A growing head after experiences with classes 0 and 2: class 1 has no images."""
    for classes in ([0], [2]):
        head.train().adaptation(SimpleNamespace(classes_in_this_experience=classes))
    return head  # type: ignore[no-any-return]


def texts(classes: int, seed: int = 0) -> TextHead:
    rows = torch.randn(classes, 128, generator=torch.Generator().manual_seed(seed))
    return TextHead(rows, 30.0)


HEADS = {
    "linear": lambda: nn.Linear(128, 3),
    "linear without bias": lambda: nn.Linear(128, 3, bias=False),
    "on unit rows": lambda: UnitLinear(128, 3),
    "zero-shot": lambda: texts(3),
    "zero-shot, of a union": lambda: SeenTextHead(texts(3)),
    "growing": lambda: grown(IncrementalClassifier(128)),
    "growing without a mask": lambda: grown(IncrementalClassifier(128, masking=False)),
    "growing from texts": lambda: grown(GrowingTextHead(texts(3))),
}


@pytest.mark.parametrize("kind", HEADS)
@torch.no_grad()
def test_heads_of_one_task(tiny: Backbone, tmp_path: Path, kind: str) -> None:
    model, images = joined(tiny, HEADS[kind]()), torch.rand(4, 3, 32, 32)
    save_tuned(tmp_path, model, tiny, {"all": NAMES}, {"method": "fda"})
    found = load_tuned(tmp_path)
    torch.testing.assert_close(found.logits(images), model(images), rtol=1e-5, atol=1e-5)
    assert found.classes == {"all": NAMES} and found.description.about == {"method": "fda"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    if kind == "growing":
        assert set(found.logits(images)[:, 1].tolist()) == {-1000.0}


@pytest.mark.parametrize("kind", ["linear", "zero-shot"])
@torch.no_grad()
def test_heads_of_several_tasks(tiny: Backbone, tmp_path: Path, kind: str) -> None:
    texted = TextHeads([texts(3), texts(2, 1)])
    head = UnitHeads(128, [3, 2]) if kind == "linear" else texted
    model = TaskHeads(tiny.tower, 128, [3, 2], head).eval()
    save_tuned(tmp_path / "new", model, tiny, {"pets": NAMES, "greek": ("α", "β")})
    found, images = load_tuned(tmp_path / "new" / "model.json"), torch.rand(4, 3, 32, 32)
    assert found.classes == {"pets": NAMES, "greek": ("α", "β")}
    for number, task in enumerate(found.classes):
        expected = model(images, number)
        torch.testing.assert_close(found.logits(images, task), expected, rtol=1e-5, atol=1e-5)
    for task in (None, "dogs"):
        with pytest.raises(ValueError, match=rf"task={task!r}: .*the tasks pets, greek; name one"):
            found.logits(images, task)


@pytest.mark.parametrize("name", ["timm:lcnet_050", "open_clip:small-clip"])
@torch.no_grad()
def test_towers_of_the_libraries(small_clip: str, tmp_path: Path, name: str) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    colours: Any = {"mean": (0.4,) * 3, "std": (0.3,) * 3, "image_size": 64}
    backbone = load_backbone(name, "random", **colours, options={})
    model = joined(backbone, nn.Linear(backbone.dim, 3))
    save_tuned(tmp_path, model, backbone, {"all": NAMES})
    found = load_tuned(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    inputs = backbone.eval_transform(picture)[None]
    assert torch.equal(found.view(picture), inputs[0]) and inputs.shape[-1] == 64
    assert torch.equal(found.logits(inputs), model(inputs))


def test_paths_may_begin_with_the_home_folder(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = joined(tiny, nn.Linear(128, 3))
    save_tuned("~/model", model, tiny, {"all": NAMES})
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["model.json", tuned.WEIGHTS]
    assert not (tmp_path / "~").exists()
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    found = load_tuned("~/model")
    (named,), (listed,) = found.predict("~/a.png"), found.predict(["~/a.png"])
    assert named.source == str(tmp_path / "a.png") and named.probability == listed.probability
    for call in (
        lambda: save_tuned("~nobody-here/x", model, tiny, {"all": NAMES}),
        lambda: load_tuned("~nobody-here/x"),
        lambda: found.predict("~nobody-here/x"),
        lambda: found.predict(["~nobody-here/x.png"]),
    ):
        with pytest.raises(ValueError, match=r"'~nobody-here/x.*give the whole path"):
            call()


def test_a_folder_is_named(tiny: Backbone, tmp_path: Path) -> None:
    model = joined(tiny, nn.Linear(128, 3))
    save_tuned(tmp_path / "model", model, tiny, {"all": NAMES})
    places = ["a.png", "b/é.jpg", "b/.ipynb_checkpoints/c.png", ".hidden/d.png", "b/notes.txt"]
    for number, place in enumerate(places):
        path = tmp_path / "photos" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (40, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, format="PNG")
    found = load_tuned(tmp_path / "model")
    results = found.predict(tmp_path / "photos", batch_size=1)
    files = [tmp_path / "photos" / place for place in places[:2]]
    assert [result.source for result in results] == list(map(str, files))
    with torch.no_grad():
        inputs = torch.stack([tiny.eval_transform(Image.open(file)) for file in files])
        expected = model(inputs).softmax(dim=1)
    for result, row in zip(results, expected, strict=True):
        assert tuple(result.probabilities) == NAMES
        assert list(result.probabilities.values()) == pytest.approx(row.tolist(), abs=1e-6)
        assert result.name == NAMES[int(row.argmax())]
        assert result.probability == max(result.probabilities.values())
    opened = found.predict([files[1], Image.open(files[0]).convert("RGBA")])
    assert [each.source for each in opened] == [str(files[1]), ""]
    assert opened[0].probabilities == pytest.approx(results[1].probabilities, abs=1e-6)
    assert found.predict(str(files[0]))[0].name == results[0].name
    turned, clear = Image.open(files[0]), Image.open(files[1]).convert("RGBA")
    turned.getexif()[0x0112] = 6  # a quarter turn
    clear.putalpha(0)
    upright, white = found.predict([turned, clear])
    straight = [turned.convert("RGB").rotate(-90, expand=True), Image.new("RGB", (36, 40), "white")]
    for got, same in zip((upright, white), found.predict(straight), strict=True):
        assert got.probabilities == pytest.approx(same.probabilities, abs=1e-6)
    (tmp_path / "photos" / "broken.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"broken\.png: "):
        found.predict(tmp_path / "photos")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no image files, at any depth"):
        found.predict(tmp_path / "empty")
    with pytest.raises(
        FileNotFoundError, match="nowhere' is neither a folder nor a file: check the path"
    ):
        found.predict("nowhere")
    with pytest.raises(ValueError, match="batch_size"):
        found.predict(files, batch_size=0)


def test_what_cannot_be_described(tiny: Backbone, tmp_path: Path) -> None:
    for head, classes, error, words in (
        (nn.Sequential(nn.Linear(128, 3)), {"all": NAMES}, TypeError, "head is a Sequential"),
        (nn.Linear(128, 3), {}, ValueError, "names 0 tasks, and the head has 1"),
        (nn.Linear(128, 3), {"all": ("a", "a", "b")}, ValueError, "must be different names"),
        (
            nn.Linear(128, 3),
            {"all": ("a", "b")},
            ValueError,
            "has 2 names, and the head has 3 classes: give a name",
        ),
    ):
        with pytest.raises(error, match=words):
            save_tuned(tmp_path, joined(tiny, head), tiny, classes)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"backbone must be a Backbone, .* not NoneType$"):
        save_tuned(tmp_path, joined(tiny, nn.Linear(128, 3)), None, {"all": NAMES})  # type: ignore[arg-type]
    own = Backbone("own", tiny.tower, 128, tiny.eval_transform, tiny.eval_transform)
    with pytest.raises(ValueError, match="does not say how it is built"):
        save_tuned(tmp_path, joined(own, nn.Linear(128, 3)), own, {"all": NAMES})
    assert list(tmp_path.iterdir()) == []


def edited(folder: Path, *keys: Any, value: Any) -> None:
    content: Any = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("format",), 2, r"format=2 is not 1: update the package"),
        (("tasks",), [], "it has no tasks"),
        (("tasks", 0, "classes"), "abc", "'classes' must be a list of texts"),
        (("tasks", 0, "layer", "rank"), 3, "describes no tuned model: .*rank"),
        (("tasks", 0, "layer", "weight"), "head.w", r"has no head\.w, which model\.json names"),
        (("preprocessing", "library"), "keras", "is none of open_clip"),
        (("backbone",), {"name": "hf-hub:a/b", "image_size": None, "options": {}}, "is unknown"),
        (("backbone",), {"name": "x"}, r"cannot be built: KeyError\('image_size'\)"),
        (("backbone", "clip", "vision_cfg", "timm_model_name"), "x", "vision_cfg has"),
        (("backbone", "clip", "cast_dtype"), "x", "clip has"),
        (("backbone", "clip", "embed_dim"), 64, r"proj is \(144, 128\), the model's \(144, 64\)"),
    ],
)
def test_files_that_are_refused(
    tiny: Backbone, tmp_path: Path, keys: tuple[Any, ...], value: Any, words: str
) -> None:
    save_tuned(tmp_path, joined(tiny, nn.Linear(128, 3)), tiny, {"all": NAMES})
    edited(tmp_path, *keys, value=value)
    with pytest.raises(ValueError, match=words):
        load_tuned(tmp_path)


def test_files_that_do_not_belong_together(tiny: Backbone, tmp_path: Path) -> None:
    for name in ("one", "two"):
        model = joined(tiny, nn.Linear(128, 3, bias=name == "one"))
        save_tuned(tmp_path / name, model, tiny, {"all": NAMES})
    shutil.copy(tmp_path / "one" / "model.json", tmp_path / "two" / "model.json")
    with pytest.raises(ValueError, match=r"its SHA-256 differs\): copy both files again"):
        load_tuned(tmp_path / "two")
    (tmp_path / "one" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is missing; .*export"):
        load_tuned(tmp_path / "one")


def test_a_classifier_of_public_parts_needs_every_entry_of_its_heads() -> None:
    head = tuned.Layer("w", bias="b", scale=None, active=None, unit=False)
    parts: Any = {}, {}, (tuned.Task("pets", NAMES, head),), {}
    with pytest.raises(ValueError, match="state has no b, which the head of task 'pets' names"):
        tuned.TunedClassifier(
            nn.Flatten(), {"w": torch.eye(3)}, tuned.Description(*parts), torch.tensor
        )
    with pytest.raises(ValueError, match="description has no tasks: give at least one Task"):
        tuned.TunedClassifier(nn.Flatten(), {}, tuned.Description({}, {}, (), {}), torch.tensor)
    with pytest.raises(ValueError, match="state has no w, which the layer names"):
        head.logits({"b": torch.ones(3)}, torch.ones(1, 3))
    assert torch.equal(
        head.logits({"w": torch.eye(3), "b": torch.ones(3)}, torch.eye(3)), torch.eye(3) + 1
    )
    with pytest.raises(TypeError, match=r"state\['steps'\] is an int, and a file of weights holds"):
        tuned.state_bytes({"steps": 3})  # type: ignore[dict-item]


def test_the_nearest_task_is_suggested(tiny: Backbone, tmp_path: Path) -> None:
    head = UnitHeads(128, [3, 2])
    model = TaskHeads(tiny.tower, 128, [3, 2], head)
    save_tuned(tmp_path, model, tiny, {"Pets": NAMES, "greek": ("α", "β")})
    with pytest.raises(ValueError, match=r"the tasks Pets, greek; name one: did you mean 'Pets'\?"):
        load_tuned(tmp_path).predict([], task="pets")


def test_loading_prints_no_warning_of_solvers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Path(tuned.__file__).read_text(encoding="utf-8")
    first = next(node for node in ast.parse(content).body if isinstance(node, ast.ImportFrom))
    assert [each.name for each in first.names] == ["_solvers"]  # before Avalanche
    warning = 'import warnings\nwarnings.warn("no QP solver found on your system")\n'
    (tmp_path / "qpsolvers.py").write_text(warning, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "qpsolvers"]:
        monkeypatch.delitem(sys.modules, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(_solvers)
    assert sys.modules.pop("qpsolvers").__file__ == str(tmp_path / "qpsolvers.py")
