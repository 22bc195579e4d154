"""A checkpoint refuses state that it cannot hold before training, and names other loaders."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from avalanche.training import DER, ER_ACE, Cumulative, JointTraining, Naive
from avalanche.training import plugins as theirs
from avalanche.training.plugins import ReplayPlugin, SupervisedPlugin
from torch import nn

from avalanche_proxyfda.checkpoint import Checkpoints, UnsavedError
from tests.checkpoint.training import BreakOff, BrokenOffError, build, train
from tests.methods import PLUGINS, toy_plugin
from tests.plugins.toys import Plain, classic


class Unsaved(SupervisedPlugin[Any]):
    """Gives a state that is no plain data."""

    def state_dict(self) -> dict[str, Any]:
        return {"pairs": [object()]}

    def load_state_dict(self, state: Any) -> None:
        pass


@pytest.mark.parametrize("extra", [[abs], {"epoch": 1, "rule": abs}])
def test_extra_data_that_cannot_be_saved_are_refused_when_given(tmp_path: Path, extra: Any) -> None:
    checkpoints = Checkpoints(build(Plain), tmp_path)
    with pytest.raises(UnsavedError, match=r"checkpoints\.extra\.\w+ is a builtins\.builtin_func"):
        checkpoints.extra = extra
    checkpoints.extra = {"epoch": 1}
    assert checkpoints.extra == {"epoch": 1}


def test_functions_among_a_plugins_attributes_are_left_out(tmp_path: Path) -> None:
    plugin = SupervisedPlugin()  # type: ignore[no-untyped-call]
    plugin.rule, plugin.rules, plugin.count = abs, [abs, min], 3
    saved = build(Plain, plugin)
    Checkpoints(saved, tmp_path).save()
    again = SupervisedPlugin()  # type: ignore[no-untyped-call]
    again.rule, again.rules, again.count = abs, [abs, max], 0
    resumed = build(Plain, again)
    assert Checkpoints(resumed, tmp_path).resume() is not None
    assert (again.rules, again.count) == ([abs, max], 3)


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (ReplayPlugin, r"ReplayPlugin\.storage_policy is a .*train without checkpoints"),
        (Unsaved, r"Unsaved\.pairs\.0 is a builtins\.object"),
    ],
)
def test_a_plugin_that_cannot_be_saved_is_refused_before_training(
    tmp_path: Path, plugin: Any, words: str
) -> None:
    with pytest.raises(UnsavedError, match=words):
        Checkpoints(build(Plain, plugin()), tmp_path)
    later = build(Plain)
    Checkpoints(later, tmp_path, on_signal=False)
    later.plugins.insert(1, plugin())
    with pytest.raises(UnsavedError, match=words):
        later.train(classic(1).train_stream[0], eval_streams=[])
    assert later.clock.train_iterations == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Cumulative, r"Cumulative keeps dataset, the data of all experiences"),
        (ER_ACE, r"ER_ACE\.storage_policy is a .*ClassBalancedBuffer"),
        (DER, r"DER\.storage_policy is a .*ClassBalancedBufferWithLogits"),
    ],
)
def test_a_strategy_that_keeps_data_is_refused(tmp_path: Path, kind: Any, words: str) -> None:
    with pytest.raises(UnsavedError, match=words):
        Checkpoints(build(Plain, kind=kind), tmp_path)


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (lambda: theirs.LwFPlugin(1.0, 2.0), "lwf, with its teacher.*of avalanche_proxyfda"),
        (lambda: theirs.LFLPlugin(1.0), "prev_model, its teacher"),
        (lambda: theirs.FeatureDistillationPlugin(1.0), "prev_model, its teacher"),
    ],
)
def test_avalanches_plugins_with_a_teacher_are_refused(
    tmp_path: Path, plugin: Any, words: str
) -> None:
    with pytest.raises(UnsavedError, match=words):
        Checkpoints(build(Plain, plugin()), tmp_path)


class Teacher(SupervisedPlugin[Any]):
    """Has a module from the beginning, and makes another one in training."""

    def __init__(self, late: bool) -> None:
        super().__init__()
        self.criterion, self.late, self.copy = nn.MSELoss(), late, None

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.copy = nn.Linear(2, 2) if self.late else None


def test_a_module_that_training_makes_is_refused_at_the_save(tmp_path: Path) -> None:
    for late in (False, True):
        trained = build(Plain, Teacher(late))
        checkpoints = Checkpoints(trained, tmp_path / str(late), on_signal=False, minutes=None)
        checkpoints.save()  # before training, the script makes all modules again
        trained.train(classic(1).train_stream[0], eval_streams=[])
        if late:
            with pytest.raises(UnsavedError, match=r"Teacher\.copy is a module that training"):
                checkpoints.save()
        else:
            checkpoints.save()


class Counting(Naive):
    """A strategy with state of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen, self.path, self.helper = 0, Path("here"), self.plugins[0]

    def _after_training_exp(self, **kwargs: Any) -> None:
        super()._after_training_exp(**kwargs)
        self.seen += 1


def test_attributes_of_a_strategys_class_are_saved(tmp_path: Path) -> None:
    trained = build(Plain, BreakOff(), kind=Counting)
    checkpoints = Checkpoints(trained, tmp_path, on_signal=False)
    for experience in classic(2).train_stream:
        trained.train(experience, eval_streams=[])
    checkpoints.save()
    again = build(Plain, BreakOff(), kind=Counting)
    assert Checkpoints(again, tmp_path).resume() is not None
    assert again.seen == 2
    assert again.helper is again.plugins[1]  # after the first plugin of the checkpoints


def test_joint_training_can_be_saved(tmp_path: Path) -> None:
    trained = build(Plain, kind=JointTraining)
    checkpoints = Checkpoints(trained, tmp_path, on_signal=False)
    trained.train(classic(2).train_stream)
    checkpoints.save()


def test_every_plugin_of_the_package_can_be_saved(tmp_path: Path) -> None:
    for method in PLUGINS:
        Checkpoints(build(Plain, toy_plugin(method, reference="initial")), tmp_path)


@pytest.mark.parametrize("step", [3, 5], ids=["inside", "between"])
def test_another_number_of_workers_is_named(tmp_path: Path, step: int) -> None:
    stream = classic(2, count=60)  # 2 x 2 steps an experience
    with pytest.raises(BrokenOffError):
        train(build(Plain, BreakOff(step)), stream, tmp_path, every=3)
    words = "training with num_workers=0, and num_workers=1 now: random views of the images"
    with pytest.warns(UserWarning, match=words) as caught:
        train(build(Plain, BreakOff()), stream, tmp_path, every=None, num_workers=1)
    assert len([w for w in caught if "random views" in str(w.message)]) == 1


def test_the_same_number_of_workers_is_not_mentioned(tmp_path: Path) -> None:
    stream = classic(2, count=60)
    with pytest.raises(BrokenOffError):
        train(build(Plain, BreakOff(5)), stream, tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the checkpoint comes from")
        trained = train(build(Plain, BreakOff()), stream, tmp_path)
        trained.train(stream.train_stream[0], eval_streams=[], num_workers=1)  # the user's choice
    assert trained.clock.train_exp_counter == 3
