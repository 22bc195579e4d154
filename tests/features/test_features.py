"""Places of features, how features are read, and the teacher."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.models import MTSimpleMLP, SimpleCNN, SimpleMLP, SlimResNet18
from torch import Tensor, nn

from avalanche_proxyfda import FeatureSource, FeatureTap, FeatureTeacher, find_feature_source
from avalanche_proxyfda.features.pooling import pool_features
from avalanche_proxyfda.features.source import OUTPUT
from avalanche_proxyfda.models import TaskHeads
from tests.plugins.toys import Growing, Multi, Plain, hooks_of


def open_clip_tower(kind: str) -> nn.Module:
    from open_clip.model import CLIP

    text = {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
    vision: dict[str, Any] = {"image_size": 32, "width": 16, "layers": 2}
    vision |= {"layers": (1, 1, 1, 1)} if kind == "resnet" else {"patch_size": 8, "head_width": 8}
    return CLIP(12, vision, text)


class Wrapped(nn.Module):
    def __init__(self, tower: nn.Module, dim: int) -> None:
        super().__init__()
        self.tower, self.scorer = tower, nn.Linear(dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.scorer(self.tower(x))


def embedding_of(teacher: FeatureTeacher, images: Tensor, *args: Any) -> Tensor:
    (source,) = teacher.sources
    return pool_features(teacher.values(images, *args)[source], str(source))


def torchvision_model(name: str) -> nn.Module:
    import torchvision

    return torchvision.models.get_model(name, weights=None, num_classes=5)


def timm_model(name: str, classes: int = 5) -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm.create_model(name, num_classes=classes)


PRESETS = {
    "open_clip vit": (lambda: Wrapped(open_clip_tower("vit").visual, 12), "tower", 32, 12),
    "open_clip resnet": (lambda: Wrapped(open_clip_tower("resnet").visual, 12), "tower", 32, 12),
    "timm vit": (lambda: timm_model("vit_tiny_patch16_224"), "head:input", 224, 192),
    "timm resnet": (lambda: timm_model("resnet10t"), "fc:input", 64, 512),
    "timm mobilenet": (lambda: timm_model("mobilenetv2_035"), "classifier:input", 32, 1280),
    "timm convnext": (lambda: timm_model("convnext_atto"), "head.fc:input", 32, 320),
    "timm headless": (lambda: Wrapped(timm_model("resnet10t", 0), 512), "tower", 64, 512),
    "resnet18": (lambda: torchvision_model("resnet18"), "fc:input", 32, 512),
    "mobilenet_v2": (lambda: torchvision_model("mobilenet_v2"), "classifier:input", 32, 1280),
    "mobilenet_v3": (
        lambda: torchvision_model("mobilenet_v3_small"),
        "classifier.2:input",
        32,
        1024,
    ),
    "convnext": (lambda: torchvision_model("convnext_tiny"), "classifier.2:input", 32, 768),
    "SimpleMLP": (lambda: SimpleMLP(5, 3 * 32 * 32, 20), "classifier:input", 32, 20),
    "SimpleCNN": (lambda: SimpleCNN(5), "classifier:input", 32, 64),
    "SlimResNet18": (lambda: SlimResNet18(5), "linear:input", 32, 160),
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_find_the_embedding_that_enters_the_head(name: str) -> None:
    make, expected, size, dim = PRESETS[name]
    model = make().eval()
    source = find_feature_source(model)
    assert str(source) == expected
    images = torch.randn(2, 3, size, size)
    tap = FeatureTap((source,))
    tap.attach(model)
    tap.arm()
    model(images)
    features = pool_features(tap.take()[source], str(source))
    tap.detach()
    assert features.shape == (2, dim) and hooks_of(model) == 0
    teacher = FeatureTeacher(model, [source])
    torch.testing.assert_close(embedding_of(teacher, images), features.detach())


def test_presets_of_avalanches_dynamic_heads() -> None:
    assert str(find_feature_source(Growing())) == "classifier:input"
    assert str(find_feature_source(Multi())) == "classifier:input"
    assert str(find_feature_source(MTSimpleMLP(input_size=12))) == "classifier:input"
    tower = open_clip_tower("vit").visual
    assert str(find_feature_source(TaskHeads(tower, 12, [2, 3]))) == "tower"
    assert str(find_feature_source(open_clip_tower("vit"))) == "visual"


def test_wrappers_are_looked_through() -> None:
    compiled = torch.compile(Plain(), backend="eager")
    assert str(find_feature_source(compiled)) == "classifier:input"


def test_an_unknown_model_asks_for_a_name() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(ValueError, match=r"pass feature_module='NAME'.*its children are: 0, 1"):
        find_feature_source(model)


def test_a_wrong_name_is_answered_with_near_ones() -> None:
    with pytest.raises(
        ValueError, match=r"'backbon' is not a module of Plain; near names: backbone"
    ):
        FeatureTap((FeatureSource.parse("backbon"),)).attach(Plain())
    with pytest.raises(ValueError, match="is empty"):
        FeatureSource.parse(":input")
    with pytest.raises(TypeError, match="feature_module=3 must be the name"):
        FeatureSource.parse(3)  # type: ignore[arg-type]


def test_a_module_that_does_not_run_is_named() -> None:
    model = Plain()
    model.unused = nn.Linear(2, 2)
    tap = FeatureTap((FeatureSource("unused"),))
    tap.attach(model)
    tap.arm()
    model(torch.randn(3, 1, 4, 4))
    with pytest.raises(ValueError, match="'unused' was not run by the model's forward"):
        tap.take()
    with pytest.raises(ValueError, match="'unused' was not run"):
        embedding_of(FeatureTeacher(model, [FeatureSource("unused")]), torch.randn(3, 1, 4, 4))


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (torch.ones(2, 5), (2, 5)),
        (torch.ones(2, 7, 5), (2, 5)),
        (torch.ones(2, 5, 3, 3), (2, 5)),
        ((torch.ones(2, 5), torch.ones(2, 7, 4)), (2, 5)),
    ],
)
def test_pooling(output: Any, expected: tuple[int, ...]) -> None:
    assert pool_features(output, "x").shape == expected


def test_pooling_first_token() -> None:
    tokens = torch.randn(2, 7, 5)
    assert torch.equal(pool_features(tokens, "x", "first"), tokens[:, 0])
    assert torch.equal(pool_features(tokens, "x"), tokens.mean(1))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (torch.ones(5), r"a tensor of shape \(5,\)"),
        (torch.ones(2, 5, 3, 3, 3), r"a tensor of shape \(2, 5, 3, 3, 3\)"),
        (torch.ones(2, 5).long(), "a Tensor"),
        ({"x": 1}, "a dict"),
    ],
)
def test_outputs_that_cannot_be_pooled(output: Any, words: str) -> None:
    with pytest.raises(ValueError, match=rf"feature_module='x' gives {words}"):
        pool_features(output, "x")


def test_the_tap_keeps_only_the_armed_forward_with_gradient() -> None:
    model, source = Plain().eval(), FeatureSource("backbone")
    tap = FeatureTap((source,))
    tap.attach(model)
    first, second = torch.randn(2, 1, 4, 4), torch.randn(3, 1, 4, 4)
    model(second)
    tap.arm()
    with torch.no_grad():
        model(second)
    model(first)
    model(second)  # as strategies with a buffer do, after the batch itself
    assert len(tap.take()[source]) == 2
    model(second)
    with pytest.raises(ValueError, match="was not run"):
        tap.take()
    tap.attach(model)
    tap.attach(model)
    assert hooks_of(model) == 1
    tap.detach()
    tap.detach()
    assert hooks_of(model) == 0


class Keeper:
    """Owns a hook, as a plugin would, and a live graph that cannot be copied."""

    def __init__(self) -> None:
        self.graph = torch.ones(2, requires_grad=True) * 2
        self.calls = 0

    def hook(self, module: nn.Module, args: Any, output: Any) -> None:
        self.calls += 1


def test_the_copy_has_no_hooks_and_does_not_drag_their_owners() -> None:
    model, keeper = Plain().eval(), Keeper()
    model.backbone.register_forward_hook(keeper.hook)
    teacher = FeatureTeacher(model, [FeatureSource("backbone")])
    embedding_of(teacher, torch.randn(2, 1, 4, 4))
    assert keeper.calls == 0 and hooks_of(teacher.module) == 0 and hooks_of(model) == 1


def test_only_the_module_that_sees_the_images_is_kept() -> None:
    model = Plain()
    teacher = FeatureTeacher(model, [FeatureSource("backbone")])
    embedding_of(teacher, torch.randn(2, 1, 4, 4))
    assert isinstance(teacher.module, nn.Sequential)
    inside = FeatureTeacher(model, [FeatureSource("backbone.3")])
    embedding_of(inside, torch.randn(2, 1, 4, 4))
    assert isinstance(inside.module, Plain)
    clip = open_clip_tower("vit")
    tower = FeatureTeacher(clip, [FeatureSource("visual")])
    embedding_of(tower, torch.randn(2, 3, 32, 32))
    assert sum(p.numel() for p in tower.module.parameters()) == sum(
        p.numel() for p in clip.visual.parameters()
    )
    again = FeatureTeacher.restore(clip, tower.sources, tower.state_dict())
    for kept in (tower, again):  # no list holds the text tower's parameters
        assert {id(p) for p in kept._trained} == {id(p) for p in kept.module.parameters()}


def test_several_places_cost_one_forward_and_keep_the_module_that_makes_them_all() -> None:
    clip, images = open_clip_tower("vit"), torch.randn(2, 3, 32, 32)
    names = ("visual", "visual.ln_pre", "visual.transformer.resblocks.1:input")
    places = [FeatureSource.parse(name) for name in names]
    teacher = FeatureTeacher(clip, places)
    first = teacher.values(images)
    assert teacher.forwards == 1 and teacher.root == "visual" and set(first) == set(places)
    assert first[places[0]].shape == (2, 12) and first[places[1]].shape == (2, 17, 16)
    teacher.forget()
    again = teacher.values(images)
    assert all(torch.equal(first[p], again[p]) for p in places)
    restored = FeatureTeacher.restore(open_clip_tower("vit"), places, teacher.state_dict())
    found = restored.values(images)
    assert restored.root == "visual" and all(torch.equal(first[p], found[p]) for p in places)


def test_places_on_both_sides_of_the_head_keep_the_whole_model() -> None:
    model, images = Plain().eval(), torch.randn(2, 1, 4, 4)
    teacher = FeatureTeacher(model, [FeatureSource("backbone"), OUTPUT])
    values = teacher.values(images)
    assert teacher.root == "" and torch.equal(values[OUTPUT], model(images))


def test_a_teacher_leaves_torch_and_its_weights_as_they_were() -> None:
    model = open_clip_tower("vit").visual
    model.ln_pre.requires_grad_(False)
    teacher = FeatureTeacher(model, [FeatureSource("ln_pre")])
    images = torch.randn(2, 3, 32, 32)
    assert torch.backends.mha.get_fastpath_enabled()
    values = teacher.values(images)
    with pytest.raises(RuntimeError):
        FeatureTeacher(model, [FeatureSource("ln_pre")]).values(torch.randn(2, 3, 31))
    assert torch.backends.mha.get_fastpath_enabled()
    for module in (teacher.module,):
        assert not any(p.requires_grad for p in module.parameters())
    assert not any(v.requires_grad for v in values.values())


class Normalising(nn.Module):
    """Changes the images on their way to the tower."""

    def __init__(self) -> None:
        super().__init__()
        self.visual, self.head = open_clip_tower("vit").visual, nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.visual(x * 0.2 - 1))


def student_features(model: nn.Module, name: str, images: Tensor) -> Tensor:
    source = FeatureSource.parse(name)
    tap = FeatureTap((source,))
    tap.attach(model)
    tap.arm()
    model(images)
    rows = pool_features(tap.take()[source], name)
    tap.detach()
    return rows.detach()


@pytest.mark.parametrize(
    ("make", "name"),
    [(Normalising, "visual"), (lambda: torchvision_model("resnet18"), "layer4.1.relu")],
    ids=["images changed before the tower", "module that runs twice"],
)
def test_teacher_and_student_read_the_same_place(make: Any, name: str) -> None:
    model, images = make().eval(), torch.randn(2, 3, 32, 32)
    teacher = FeatureTeacher(model, [FeatureSource.parse(name)])
    for _ in range(2):
        torch.testing.assert_close(
            embedding_of(teacher, images), student_features(model, name, images)
        )
        images = torch.randn(2, 3, 32, 32)


def test_an_input_given_by_keyword_is_read() -> None:
    class ByName(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return self.classifier(input=self.backbone(x))

    model, images = ByName().eval(), torch.randn(2, 1, 4, 4)
    rows = student_features(model, "classifier:input", images)
    torch.testing.assert_close(rows, model.backbone(images).detach())


def test_the_head_is_not_run_by_a_teacher_that_ends_before_it() -> None:
    model = Plain()
    teacher = FeatureTeacher(model, [FeatureSource("classifier", of_input=True)])
    calls: list[int] = []
    teacher.module.classifier.register_forward_hook(lambda *a: calls.append(1))
    embedding_of(teacher, torch.randn(2, 1, 4, 4))
    assert not calls


def test_asking_twice_about_a_batch_costs_one_forward() -> None:
    teacher = FeatureTeacher(Plain(), [FeatureSource("backbone")])
    images = torch.randn(2, 1, 4, 4)
    first, again = embedding_of(teacher, images), embedding_of(teacher, images)
    assert first is again and teacher.forwards == 1 and not first.requires_grad
    teacher.forget()
    embedding_of(teacher, images)
    embedding_of(teacher, images.clone())
    assert teacher.forwards == 3


def test_the_teacher_runs_under_the_students_autocast() -> None:
    source, model = FeatureSource("backbone"), Plain()
    tap = FeatureTap((source,))
    tap.attach(model)
    for on in (True, False):
        tap.arm()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on):
            model(torch.randn(2, 1, 4, 4))
        tap.take()
        assert tap.autocast == (torch.bfloat16 if on else None)
        rows = embedding_of(FeatureTeacher(model, [source]), torch.randn(2, 1, 4, 4), tap.autocast)
        assert rows.dtype == (torch.bfloat16 if on else torch.float32)


def test_a_model_that_ran_compiled_before_is_explained() -> None:
    model = Plain().eval()
    compiled = torch.compile(model, backend="eager")
    compiled(torch.randn(2, 1, 4, 4))
    source = find_feature_source(compiled)
    tap = FeatureTap((source,))
    tap.attach(compiled)
    tap.arm()
    compiled(torch.randn(2, 1, 4, 4))
    with pytest.raises(ValueError, match=r"not see new hooks: call torch.compiler.reset\(\)"):
        tap.take()
    torch.compiler.reset()
    tap.arm()
    compiled(torch.randn(2, 1, 4, 4))
    assert tap.take()[source].shape == (2, 8)


@pytest.mark.parametrize("name", ["backbone", "classifier:input"])
def test_a_teacher_is_restored_into_a_model_whose_head_has_grown(name: str) -> None:
    source, images = FeatureSource.parse(name), torch.randn(4, 1, 4, 4)
    teacher = FeatureTeacher(Plain(seed=1), [source])
    expected = embedding_of(teacher, images)
    grown = Plain(seed=2)
    grown.classifier = nn.Linear(8, 40)
    again = FeatureTeacher.restore(grown, [source], teacher.state_dict())
    assert torch.equal(embedding_of(again, images), expected)
    assert grown.classifier.weight.shape == (40, 8)


def test_restoring_into_another_model_is_refused() -> None:
    state = FeatureTeacher(Plain(), [FeatureSource("backbone")]).state_dict()
    state["module"]["backbone.9.weight"] = torch.ones(1)
    with pytest.raises(ValueError, match=r"'backbone.9.weight', which the model lacks"):
        FeatureTeacher.restore(Plain(), [FeatureSource("backbone")], state)


def test_a_model_that_cannot_be_copied_is_explained() -> None:
    model = Plain()
    model.kept = [model.backbone(torch.randn(2, 1, 4, 4))]
    with pytest.raises(RuntimeError, match="needs a deep copy of Plain, which failed"):
        FeatureTeacher(model, [FeatureSource("backbone")])
