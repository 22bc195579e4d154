"""The recommended sets: what they hold, what they cost, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda import LDIFSPlugin, SoftFDAPlugin, WiSEFTPlugin, recommended
from tests.methods import TAPS
from tests.plugins.test_life_cycle import Watcher
from tests.plugins.toys import Plain, classic, strategy


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("pointwise", [None, 100.0])
def test_a_set_costs_one_teacher_forward_a_step(cached: bool, pointwise: float | None) -> None:
    model, watcher = Plain(), Watcher()
    cache: Any = "exact" if cached else "off"
    taps = None if pointwise is None else TAPS
    plugins = recommended(model, memory=20, pointwise=pointwise, taps=taps, teacher_cache=cache)
    terms: list[Any] = [plugin for plugin in plugins if not isinstance(plugin, WiSEFTPlugin)]
    assert [term.weight for term in terms] == [1.0, *([] if pointwise is None else [100.0])]
    trained = strategy(model, watcher, *plugins, train_epochs=2)
    trained.train(classic(1).train_stream[0], eval_streams=[])
    steps = trained.clock.train_iterations
    assert steps == 10 and watcher.calls == [1] * steps  # 120 images in batches of 24
    forwards = sum(term.teacher_forwards for term in terms)
    probes = 3  # eight samples, and their halves
    assert forwards == (steps // 2 + probes if cached else steps)


def test_the_options_reach_the_plugins(tmp_path: Any) -> None:
    given: dict[str, Any] = {"teacher": "initial", "cache_dir": tmp_path, "cache_views": 3}
    soft, ldifs, averaged = recommended(
        Plain(), 2.0, 0.8, pointwise=50.0, scale=5.0, taps=TAPS, memory=7, seed=3, **given
    )
    assert isinstance(soft, SoftFDAPlugin) and isinstance(ldifs, LDIFSPlugin)
    assert isinstance(averaged, WiSEFTPlugin) and averaged.alpha == 0.8
    assert (soft.weight, soft.scale, soft.memory.size, soft.seed) == (2.0, 5.0, 7, 3)
    assert soft.choice == ldifs.choice == averaged.choice == "initial" and soft.cache == ldifs.cache
    assert (soft.cache.views, ldifs.weight) == (3, 50.0)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"structural": -1.0}, ValueError, "structural=-1.0 must be finite and not negative"),
        ({"pointwise": "1"}, TypeError, "pointwise='1' must be a number"),
        ({"teacher": "last"}, ValueError, "teacher='last' is unknown"),
        ({"feature_module": "backbon"}, ValueError, "'backbon' is not a module of Plain"),
        ({"taps": ("backbon",)}, ValueError, "taps='backbon' is not a module of Plain"),
        ({"taps": None}, ValueError, "taps"),
        ({"pointwise": None}, ValueError, "pointwise=None leaves LDIFS out: give one of the two"),
        ({"alpha": 1.5}, ValueError, r"alpha=1.5 must lie in \[0, 1\]"),
        ({"alpha": "0.5"}, TypeError, "alpha='0.5' must be a number"),
    ],
)
def test_a_recommended_set_that_cannot_work_is_refused_at_once(
    options: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        recommended(Plain(), **{"taps": TAPS, "pointwise": 100.0, **options})


def test_the_recommended_set_takes_a_model_and_nothing_else() -> None:
    model: Any
    for model, kind in (("resnet", "str"), (strategy(Plain(), Watcher()), "Naive")):
        with pytest.raises(TypeError, match=rf"model must be a torch\.nn\.Module, not {kind}$"):
            recommended(model)


def test_the_set_is_soft_fda_and_wise_ft() -> None:
    soft, averaged = recommended(Plain())
    assert isinstance(soft, SoftFDAPlugin) and isinstance(averaged, WiSEFTPlugin)
    assert (soft.weight, averaged.alpha, averaged.choice) == (1.0, 0.5, "previous")
    assert [type(p) for p in recommended(Plain(), alpha=None)] == [SoftFDAPlugin]
    for teacher, anchor in (("initial", "initial"), ("averaged", "previous")):
        *_, averaged = recommended(Plain(), teacher=teacher)  # type: ignore[arg-type]
        assert averaged.choice == anchor
    *_, averaged = recommended(Plain(), feature_module="backbone")
    assert str(averaged.named) == "backbone"


class Teachers(SupervisedPlugin[Any]):
    """Copies the teacher's weights at the beginning of each epoch."""

    def __init__(self, plugin: SoftFDAPlugin) -> None:
        super().__init__()
        self.plugin, self.teachers = plugin, list[dict[str, Tensor]]()

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        teacher: Any = self.plugin.teacher
        state = teacher.module.state_dict()
        self.teachers.append({name: value.clone() for name, value in state.items()})


@pytest.mark.parametrize("first", ["soft-fda", "wise-ft"])
def test_the_teacher_of_an_experience_has_the_averaged_weights(first: str) -> None:
    """The average ends an experience, and the teacher is copied when the next one begins."""
    torch.manual_seed(0)
    model = Plain(dropout=0.0)
    soft, averaged = recommended(model)
    order = (soft, averaged) if first == "soft-fda" else (averaged, soft)
    watcher = Teachers(soft)
    trained = strategy(model, *order, watcher)
    one, two = classic(2).train_stream
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    trained.train(one, eval_streams=[])
    between = {name: value.clone() for name, value in model.backbone.state_dict().items()}

    torch.manual_seed(0)
    alone = Plain(dropout=0.0)
    plain = strategy(alone, *recommended(alone, alpha=None))
    plain.train(one, eval_streams=[])
    tuned = alone.backbone.state_dict()
    for name, value in between.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (before[name] + tuned[name]) / 2)
    assert not torch.equal(between["1.weight"], tuned["1.weight"])

    trained.train(two, eval_streams=[])
    teacher = watcher.teachers[1]
    assert all(torch.equal(teacher[f"backbone.{n}"], value) for n, value in between.items())
