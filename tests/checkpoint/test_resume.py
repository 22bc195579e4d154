"""A training that stops at any step and resumes gives the results of an unbroken one."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.training.plugins import EarlyStoppingPlugin, LRSchedulerPlugin, SupervisedPlugin
from torch import Tensor
from torch.utils.data import TensorDataset

from avalanche_proxyfda import EfficientNaive, FDAPlugin
from avalanche_proxyfda._random import RandomState
from avalanche_proxyfda.checkpoint import rest
from avalanche_proxyfda.checkpoint.checkpoints import Checkpoints
from avalanche_proxyfda.checkpoint.folder import is_there
from avalanche_proxyfda.data.keyed import ShuffledBatches
from avalanche_proxyfda.data.steady import SteadyLoader
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.methods import PLUGINS, toy_plugins
from tests.plugins.toys import Blobs, Growing, Multi, Plain, classic, modern

TOGETHER: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "none": {},
    "proxy-fda": {"proxy-fda": {"reference": "initial"}},
    "bank": {"fda": {"classes_per_batch": 2, "start": "fitted"}},
    "online": {"fda": {"classes_per_batch": 2, "mining": "online"}},
    "unbalanced": {"proxy-fda": {"hard_class_batches": False}},
    "lwf": {"lp-ft": {"refit": False}, "lwf": {}},
    "weights": {"l2sp": {}, "wise-ft": {"reference": "initial"}},
    "memory": {"soft-fda": {"memory": 30, "proxies": True, "hard_class_batches": False}},
}
"""Several methods at once, and methods with options, by a name of their own."""
ALONE = [
    method
    for method in PLUGINS
    if method == "fda" or not any(method in case for case in TOGETHER.values())
]
CASES = {**{method: {method: {}} for method in ALONE}, **TOGETHER}
EVERYWHERE = ("none", "fda", "proxy-fda")
"""Cases that are broken off at every step in every benchmark; others at one step in each."""
BENCHMARKS: dict[str, Any] = {
    "static": (Plain, lambda: classic(2)),
    "growing": (Growing, lambda: modern(2)),
    "heads": (Multi, lambda: classic(2, task_labels=True)),
}


def broken_at(
    step: int, make: Any, model: Any, benchmark: Any, folder: Path, every: int = 2, **options: Any
) -> Any:
    """Train until ``step``, and then, in a new strategy, to the end."""
    with pytest.raises(BrokenOffError):
        train(build(model, *make(), BreakOff(step)), benchmark, folder, every, **options)
    return train(build(model, *make(), BreakOff()), benchmark, folder, every, **options)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
@pytest.mark.parametrize("method", CASES)
def test_a_training_that_was_broken_off_ends_the_same(
    tmp_path: Path, method: str, benchmark: str
) -> None:
    make, (model, stream) = partial(toy_plugins, CASES[method]), BENCHMARKS[benchmark]
    whole = train(build(model, *make(), BreakOff()), stream(), tmp_path / "whole", every=None)
    total = whole.clock.train_iterations
    # within an epoch, at the end of one, in the second experience
    steps = dict(zip(BENCHMARKS, (1, 5, total // 2 + 3), strict=True))
    for step in steps.values() if method in EVERYWHERE else [steps[benchmark]]:
        again = broken_at(step, make, model, stream(), tmp_path / str(step))
        assert alike(whole, again), step


class BreakOffInEvaluation(SupervisedPlugin[Any]):
    """Raises in the evaluation, as a signal does that comes then, if it shall."""

    def __init__(self, raises: bool) -> None:
        super().__init__()
        self.raises = raises

    def after_eval_forward(self, strategy: Any, **kwargs: Any) -> None:
        if self.raises:
            raise BrokenOffError

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        pass


@pytest.mark.parametrize("benchmark", BENCHMARKS)
@pytest.mark.parametrize("method", ["none", "proxy-fda", "weights"])
def test_a_stop_in_the_evaluation_loses_no_training(
    tmp_path: Path, method: str, benchmark: str
) -> None:
    make, (model, stream) = partial(toy_plugins, CASES[method]), BENCHMARKS[benchmark]
    steps = Counter[str]()

    class Steps(BreakOff):
        def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            steps[self.act] += 1

    whole = train(build(model, *make(), Steps(act="whole")), stream(), tmp_path / "a", every=None)
    broken = build(model, *make(), Steps(act="first"))
    broken.plugins.append(BreakOffInEvaluation(True))
    with pytest.raises(BrokenOffError):
        train(broken, stream(), tmp_path / "b", every=None)
    rest = build(model, *make(), Steps(act="rest"))
    rest.plugins.append(BreakOffInEvaluation(False))
    again = train(rest, stream(), tmp_path / "b", every=None)
    assert alike(whole, again)
    assert steps["first"] == steps["rest"] == steps["whole"] / 2  # no step is trained twice


class Noisy(Blobs):
    """Adds new noise to an image at each access."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = super().__getitem__(index)
        return image + 0.1 * torch.randn(image.shape), label


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("method", ["none", "fda"])
def test_random_views_and_shuffled_batches_come_again(
    tmp_path: Path, method: str, workers: int
) -> None:
    made = partial(toy_plugins, CASES[method])
    stream = nc_benchmark(
        Noisy(48, 3), Noisy(24, 3, 1), 1, task_labels=False, fixed_class_order=[0, 1, 2]
    )
    options = {"num_workers": workers}
    whole = train(build(Plain, *made(), BreakOff()), stream, tmp_path / "whole", None, **options)
    again = broken_at(3, made, Plain, stream, tmp_path / "broken", every=1, **options)
    assert alike(whole, again)


@pytest.mark.parametrize("mining", ["bank", "prototypes"])
def test_classes_that_are_mined_on_random_views_come_again(tmp_path: Path, mining: Any) -> None:
    """The epochs after the resume choose classes by features of views that are drawn again."""

    class Noisier(Blobs):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            image, label = super().__getitem__(index)
            return image + 2 * torch.randn(image.shape), label

    def made(step: int | None = None) -> Any:
        own = FDAPlugin(num_neighbors=4, mining=mining, classes_per_batch=2, teacher_cache="off")
        return build(Plain, own, BreakOff(step), train_epochs=4)

    order = {"task_labels": False, "fixed_class_order": list(range(6))}
    stream = nc_benchmark(Noisier(72), Noisier(24, seed=1), 1, **order)
    whole = train(made(), stream, tmp_path / "whole", None)
    with pytest.raises(BrokenOffError):
        train(made(1), stream, tmp_path / "broken", every=1)
    with pytest.warns(UserWarning, match="were not drawn in the first epoch"):  # at its end
        again = train(made(), stream, tmp_path / "broken")
    assert alike(whole, again)


@pytest.mark.parametrize(
    "options",
    [{"precision": "fp16"}, {"precision": "bf16", "accumulate": 3}, {"accumulate": 2}],
    ids=["fp16", "bf16-3", "2"],
)
def test_a_training_with_scaled_and_accumulated_gradients_goes_on(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    graph: Any = "accumulated" if "accumulate" in options else "micro-batch"

    def made(step: int | None = None) -> Any:
        own = FDAPlugin(num_neighbors=4, graph_from=graph)
        return build(Plain, own, BreakOff(step), kind=EfficientNaive, train_mb_size=12, **options)

    whole = train(made(), classic(2), tmp_path / "whole", every=None)
    for step in (5, 16):
        with pytest.raises(BrokenOffError):
            train(made(step), classic(2), tmp_path / str(step), every=1)
        again = train(made(), classic(2), tmp_path / str(step), every=1)
        assert alike(whole, again), step
        assert vars(whole)["skipped_updates"] == vars(again)["skipped_updates"]
        assert whole.extra_forwards == again.extra_forwards


def test_schedules_and_early_stopping_go_on(tmp_path: Path) -> None:
    def made() -> Any:
        def stop() -> Any:
            return EarlyStoppingPlugin(1, "train_stream", metric_name="Top1_Acc_Exp")

        strategy = build(Plain, stop(), BreakOff(step), train_epochs=4)
        schedule = torch.optim.lr_scheduler.StepLR(strategy.optimizer, 1, 0.5)
        strategy.plugins.insert(
            1, LRSchedulerPlugin(schedule, reset_scheduler=False, reset_lr=False)
        )
        return strategy

    step: int | None = None
    whole = train(made(), classic(2), tmp_path / "whole", every=None)
    step = 13
    with pytest.raises(BrokenOffError):
        train(made(), classic(2), tmp_path / "broken", every=2)
    step = None
    again = train(made(), classic(2), tmp_path / "broken", every=2)
    assert alike(whole, again)
    assert whole.optimizer.param_groups[0]["lr"] == again.optimizer.param_groups[0]["lr"] < 1e-2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_training_after_the_step_with_a_checkpoint(
    tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    ask = BreakOff(4, lambda: os.kill(os.getpid(), number))
    strategy = build(Plain, FDAPlugin(num_neighbors=4), ask)
    expected = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    with pytest.raises(expected) as ended:
        train(strategy, classic(2), tmp_path / "broken", every=None)
    assert strategy.clock.train_iterations == 5 and signal.getsignal(number) is before
    if number == signal.SIGTERM:
        assert ended.value.code == 143
    made = partial(toy_plugins, CASES["fda"])
    whole = train(build(Plain, *made(), BreakOff()), classic(2), tmp_path / "whole", every=None)
    fresh = build(Plain, *made(), BreakOff())
    found = Checkpoints(fresh, tmp_path / "broken").resume()
    assert found is not None and found.inside and found.experiences == 0
    assert "5 steps" in found.source
    again = train(build(Plain, *made(), BreakOff()), classic(2), tmp_path / "broken", every=None)
    assert alike(whole, again)


def test_what_the_caller_keeps_comes_back_and_clearing_deletes(tmp_path: Path) -> None:
    strategy = build(Plain)
    checkpoints = Checkpoints(strategy, tmp_path / "c")
    assert checkpoints.resume() is None and not is_there(tmp_path / "c")
    extra = {"rows": [(1.5, None)], 3: {"x": torch.arange(3)}, "nan": float("nan"), "all": {1, 2}}
    checkpoints.extra = lambda: extra
    strategy.train(classic(1).train_stream[0], eval_streams=[])
    checkpoints.save()
    again = build(Plain)
    found = Checkpoints(again, tmp_path / "c").resume()
    assert found is not None and found.experiences == 1 and not found.inside
    assert repr(found.extra) == repr(extra) and list(found.extra) == list(extra)
    checkpoints.clear()
    assert not (tmp_path / "c").exists()


def test_another_number_of_epochs_is_refused_inside_an_experience(tmp_path: Path) -> None:
    with pytest.raises(BrokenOffError):
        train(build(Plain, BreakOff(3)), classic(1), tmp_path)
    again = build(Plain, BreakOff(), train_epochs=3)
    with pytest.raises(ValueError, match=r"experience of 2 epochs, but train_epochs=3 now"):
        train(again, classic(1), tmp_path)


def test_a_resume_at_the_end_of_an_epoch_leaves_the_next_epoch_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rest, "load_strategy_state", lambda *_, **__: None)
    loader = SteadyLoader(TensorDataset(torch.arange(6)), ShuffledBatches(6, 2, seed=0))
    place = {"random": RandomState.capture(torch.device("cpu")).state_dict(), "workers": None}
    state = {"inside": {"batches": 3, "place": place}, "strategy": {}}
    strategy: Any = SimpleNamespace(device=torch.device("cpu"), dataloader=loader)
    loader.set_epochs(0, 2)
    assert list(rest.RestOfEpoch(strategy, loader, state)) == []
    loader.set_epochs(1, 2)
    assert sorted(int(row) for (rows,) in loader for row in rows) == list(range(6))
