"""Presets of plain Sequentials and of Avalanche's own models, and modules that run twice."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from avalanche import models
from avalanche.models import icarl_resnet, pytorchcv_wrapper
from torch import Tensor, nn

from avalanche_proxyfda import FDAPlugin, FeatureTap, FeatureTeacher, find_feature_source
from avalanche_proxyfda.features.source import FeatureSource
from avalanche_proxyfda.teacher.snapshot import frozen_copy
from avalanche_proxyfda.weights.anchor import encoder_names
from tests.features.timm_families import older_timm
from tests.methods import PLUGINS, toy_plugin
from tests.plugins.toys import CLASSES, Plain, backbone, classic, strategy

# ---- nn.Sequential --------------------------------------------------------------------------


def flat(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), *layers)


SEQUENTIALS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "relu": (lambda: flat(nn.ReLU(), nn.Linear(8, CLASSES)), "3:input"),
    "dropout": (lambda: flat(nn.ReLU(), nn.Dropout(), nn.Linear(8, CLASSES)), "3:input"),
    "log softmax": (lambda: flat(nn.Linear(8, CLASSES), nn.LogSoftmax(1)), "2:input"),
    "nested": (lambda: nn.Sequential(flat(), nn.Linear(8, CLASSES)), "1:input"),
    "whole inside": (lambda: nn.Sequential(flat(nn.Linear(8, CLASSES))), "0.2:input"),
    "head inside": (
        lambda: nn.Sequential(flat(), nn.Sequential(nn.Dropout(), nn.Linear(8, CLASSES))),
        "1:input",
    ),
    "named": (
        lambda: nn.Sequential(
            OrderedDict(flat=nn.Flatten(), body=nn.Linear(16, 8), out=nn.Linear(8, CLASSES))
        ),
        "out:input",
    ),
    "two layers": (
        lambda: nn.Sequential(flat(), nn.Sequential(nn.Linear(8, 8), nn.Linear(8, CLASSES))),
        "1.1:input",
    ),
}


def value_at(model: nn.Module, source: FeatureSource, images: Tensor) -> Tensor:
    tap = FeatureTap((source,))
    tap.attach(model)
    tap.arm()
    model(images)
    value: Tensor = tap.take()[source]
    tap.detach()
    return value


@pytest.mark.parametrize("name", SEQUENTIALS)
def test_the_input_of_the_last_linear_layer_of_a_sequential(name: str) -> None:
    make, expected = SEQUENTIALS[name]
    model = make().eval()
    source = find_feature_source(model)
    assert str(source) == expected
    entered: list[Tensor] = []
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    last.register_forward_pre_hook(lambda module, args: entered.append(args[0]))
    torch.testing.assert_close(value_at(model, source, torch.randn(3, 1, 4, 4)), entered[0])
    last_names = {n for n, m in model.named_modules() if m is last}
    outside = {n.rpartition(".")[0] for n, _ in model.named_parameters()}
    outside -= {n.rpartition(".")[0] for n in encoder_names(model, source)}
    assert outside == last_names


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(16, 6)),  # nothing is learnt before
        nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 6), nn.BatchNorm1d(6)),
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()),
        nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(16, 6))),
        nn.Sequential(),
    ],
)
def test_sequentials_that_have_no_such_layer_are_asked_about(model: nn.Module) -> None:
    with pytest.raises(ValueError, match="pass feature_module='NAME'"):
        find_feature_source(model)


@pytest.mark.parametrize("method", PLUGINS)
def test_every_plugin_trains_a_sequential(method: str) -> None:
    model = nn.Sequential(*backbone(), nn.ReLU(), nn.Linear(8, CLASSES))
    options = {"taps": ("1", "3", "5")} if method == "ldifs" else {}
    trained = strategy(model, toy_plugin(method, **options))
    trained.train(classic(2).train_stream, eval_streams=[])
    assert trained.clock.train_exp_counter == 2


# ---- Avalanche's models ---------------------------------------------------------------------


def extractor(kind: Any, *heads: nn.Module) -> nn.Module:
    model: nn.Module = kind(backbone(), *heads)
    return model


def on_layer() -> nn.Module:
    body = nn.Sequential(*backbone(), nn.Linear(8, 5))
    return nn.Sequential(models.FeatureExtractorBackbone(body, "5"), nn.Linear(8, CLASSES))


SMALL: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "FeatureExtractorModel": (
        lambda: extractor(models.FeatureExtractorModel, nn.Linear(8, CLASSES)),
        "feature_extractor",
    ),
    "FeatureExtractorModel growing": (
        lambda: extractor(models.FeatureExtractorModel, models.IncrementalClassifier(8, 2)),
        "feature_extractor",
    ),
    "TrainEvalModel": (
        lambda: extractor(
            models.TrainEvalModel, models.IncrementalClassifier(8, 2), models.NCMClassifier()
        ),
        "feature_extractor",
    ),
    "FeatureExtractorBackbone": (on_layer, "0.model.5"),
    "cosine": (
        lambda: nn.Sequential(backbone(), models.CosineIncrementalClassifier(8, CLASSES)),
        "1:input",
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_wrappers_of_avalanche_train_with_fda(name: str) -> None:
    make, expected = SMALL[name]
    model, own = make(), FDAPlugin(num_neighbors=4)
    assert str(find_feature_source(model)) == expected
    trained = strategy(model, own)
    for experience in classic(2).train_stream:  # no evaluation between: features have a graph
        trained.train(experience, eval_streams=[])
        assert own.source == find_feature_source(model)
    assert own.teacher_forwards > 0


def test_a_model_that_switches_heads_has_one_embedding() -> None:
    make, _ = SMALL["TrainEvalModel"]
    model = make()
    teacher, images = FeatureTeacher(model, [find_feature_source(model)]), torch.randn(4, 1, 4, 4)
    (value,) = teacher.values(images).values()
    expected = model.eval().get_submodule("feature_extractor")(images)
    torch.testing.assert_close(value, expected.detach())


def test_a_kept_tensor_of_the_last_forward_is_copied_without_its_graph() -> None:
    make, _ = SMALL["FeatureExtractorModel"]
    model: Any = make()
    model(torch.randn(4, 1, 4, 4))
    twin: Any = frozen_copy(model)
    assert model.features.grad_fn is not None and not twin.features.requires_grad
    assert torch.equal(twin.features, model.features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        normed = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 3)), nn.Linear(3, 2))
    images = torch.randn(2, 4)
    assert torch.equal(frozen_copy(normed)(images), normed(images).detach())
    assert torch.equal(frozen_copy(normed)(images), normed(images).detach())


def pytorchcv(name: str) -> nn.Module:
    model: nn.Module = pytorchcv_wrapper.get_model(name)
    return model


LARGE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "MTSimpleMLP": (lambda: models.MTSimpleMLP(3 * 32 * 32), "classifier:input"),
    "SimpleMLP_TinyImageNet": (models.SimpleMLP_TinyImageNet, "classifier:input"),
    "MTSimpleCNN": (models.MTSimpleCNN, "classifier:input"),
    "MTSlimResNet18": (lambda: models.MTSlimResNet18(5), "linear:input"),
    "LeNet5": (lambda: models.LeNet5(5, 3), "classifier:input"),
    "IcarlNet": (lambda: icarl_resnet.IcarlNet(5), "classifier:input"),
    "PNN": (lambda: models.PNN(in_features=3 * 32 * 32), "classifier:input"),
    "as_multitask": (
        lambda: models.as_multitask(models.SimpleMLP(5), "classifier"),
        "classifier:input",
    ),
    "MobilenetV1": (lambda: models.MobilenetV1(pretrained=False), "output:input"),
    "pytorchcv resnet": (lambda: pytorchcv("resnet20_cifar10"), "output:input"),
    "pytorchcv vgg": (lambda: pytorchcv("vgg11"), "output.fc3:input"),
    "pytorchcv densenet": (lambda: pytorchcv("densenet40_k12_cifar10"), "output:input"),
    "pytorchcv inside": (
        lambda: nn.ModuleDict({"net": pytorchcv("resnet20_cifar10")}),
        "net.output:input",
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_presets_of_avalanches_models(name: str) -> None:
    make, expected = LARGE[name]
    with torch.device("meta") if name == "pytorchcv vgg" else warnings.catch_warnings():
        model = make()
    source = find_feature_source(model)
    assert str(source) == expected
    head = source.find(model)
    linear = [m for m in head.modules() if isinstance(m, nn.Linear)]
    assert source.of_input and len(linear) == 1


# ---- timm's models with two tokens -----------------------------------------------------------


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "pit_ti_distilled_224"])
def test_distilled_models_are_read_at_the_class_token(name: str) -> None:
    timm = pytest.importorskip("timm")
    if name.startswith("pit") and older_timm():
        pytest.skip("timm 1.0.17 gives the class token to both heads of PiT")
    model = timm.create_model(name, num_classes=5).eval()
    source = find_feature_source(model)
    assert str(source) == "head:input"
    images = torch.randn(2, 3, 224, 224)
    other = FeatureSource.parse("head_dist:input")
    first, second = (value_at(model, place, images) for place in (source, other))
    tokens = model.forward_features(images)
    rows = tokens if isinstance(tokens, tuple) else (tokens[:, 0], tokens[:, 1])
    torch.testing.assert_close(first, rows[0])
    torch.testing.assert_close(second, rows[1])
    assert not torch.allclose(first, second, atol=1e-2)


# ---- modules that run twice -------------------------------------------------------------------


class Shared(Plain):
    """Uses one ReLU at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.more = nn.ReLU(), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.act(self.more(self.act(self.backbone(x))))
        logits: Tensor = self.classifier(rows)
        return logits


def test_a_module_that_runs_twice_is_named_once() -> None:
    own = FDAPlugin(feature_module="act", num_neighbors=4)
    words = "'act' ran 2 times in one forward of the model, and the value of the first run"
    trained = strategy(Shared(), own, train_epochs=2)
    with pytest.warns(UserWarning, match=words) as caught:
        trained.train(classic(2).train_stream[0], eval_streams=[])
    assert len([w for w in caught if "ran 2 times" in str(w.message)]) == 1
    assert trained.clock.train_iterations > 4


def test_the_first_run_is_read_by_student_and_teacher() -> None:
    model, images, source = Shared().eval(), torch.randn(3, 1, 4, 4), FeatureSource("act")
    with pytest.warns(UserWarning, match="'act' ran 2 times"):
        value = value_at(model, source, images)
    torch.testing.assert_close(value, model.act(model.backbone(images)))
    (other,) = FeatureTeacher(model, [source]).values(images).values()
    torch.testing.assert_close(other, value.detach())


def test_a_second_forward_of_the_whole_model_is_no_second_run() -> None:
    model, source = Plain(), FeatureSource("backbone")
    tap = FeatureTap((source,))
    tap.attach(model)
    tap.arm()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(torch.randn(3, 1, 4, 4))
        model(torch.randn(5, 1, 4, 4))  # of a buffer, as ER-ACE runs it
        assert len(tap.take()[source]) == 3
