"""``train.steps``: an experience has so many optimizer steps, in place of epochs."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from avalanche.benchmarks import nc_benchmark
from avalanche.training.plugins import SupervisedPlugin
from pydantic import ValidationError

from avalanche_proxyfda import FDAPlugin
from benchmarks.config import complaint, read
from benchmarks.experiment.loop import ObservedEfficientNaive, ObservedNaive
from benchmarks.experiment.prepare import epochs_of, planned_steps, steps_of
from benchmarks.experiment.run import run
from benchmarks.experiment.training import StepTimer, WarmUpCosine
from benchmarks.streams.registry import load_stream
from tests.benchmarks.miniature import config, views_of
from tests.checkpoint.test_resume import BreakOffInEvaluation, Noisy
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.plugins.toys import Plain

BATCHES = 4  # of an epoch: 8, 8, 8 and 6 images
BALANCED = {"classes_per_batch": 3, "samples_per_class": 2, "hard_class_batches": True}
"""Every batch has all classes of an experience."""


def stream() -> Any:
    """Two experiences of 30 images; each access to an image draws new noise."""
    order = list(range(6))
    return nc_benchmark(Noisy(60), Noisy(24, seed=1), 2, task_labels=False, fixed_class_order=order)


class Watch(SupervisedPlugin[Any]):
    """Counts the steps of each experience, and notes their rates and losses."""

    def __init__(self) -> None:
        super().__init__()
        self.updates = Counter[int]()
        self.rates: list[float] = []
        self.losses: list[tuple[int, float, int]] = []

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        self.updates[strategy.clock.train_exp_counter] += 1
        self.rates.append(strategy.optimizer.param_groups[0]["lr"])

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        epoch = strategy.clock.train_exp_epochs
        self.losses.append((epoch, float(strategy.loss.detach()), len(strategy.mb_y)))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        pass


def made(steps: int | None, epochs: int, *plugins: Any, kind: Any = None, **options: Any) -> Any:
    timer = StepTimer()
    strategy = build(
        Plain,
        timer,
        *plugins,
        WarmUpCosine(0.25),
        kind=kind or ObservedEfficientNaive,
        timer=timer,
        train_mb_size=8,
        train_epochs=epochs,
        **options,
    )
    strategy.train_steps = steps
    return strategy


@pytest.mark.parametrize(("accumulate", "steps", "batches"), [(1, 6, 6), (3, 3, 7), (3, 1, 3)])
def test_an_experience_has_its_steps_and_its_last_epoch_a_mean(
    tmp_path: Path, accumulate: int, steps: int, batches: int
) -> None:
    watch, epochs = Watch(), math.ceil(batches / BATCHES)
    strategy = train(
        made(steps, epochs, watch, accumulate=accumulate), stream(), tmp_path, every=None
    )
    assert watch.updates == {0: steps, 1: steps}
    assert strategy.timer.forwards == len(strategy.timer.seconds) == 2 * batches
    rising = max(1.0, 0.25 * batches)
    last = 0.5 * (1 + math.cos(math.pi * (batches - 1) / batches))
    assert watch.rates[-1] == watch.rates[steps - 1]
    assert watch.rates[-1] == pytest.approx(1e-2 * min(batches / rising, last))
    (_, logged), *_ = [
        values
        for name, values in strategy.evaluator.get_all_metrics().items()
        if name.startswith("Loss_Epoch")
    ]
    assert len(logged) == 2 * epochs
    rest = [(loss, size) for epoch, loss, size in watch.losses[:batches] if epoch == epochs - 1]
    mean = sum(loss * size for loss, size in rest) / sum(size for _, size in rest)
    assert logged[epochs - 1] == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_steps_of_whole_epochs_are_the_epochs_to_the_bit(tmp_path: Path, accumulate: int) -> None:
    other: Any = {"accumulate": accumulate} if accumulate > 1 else {"kind": ObservedNaive}
    fda: Any = {"num_neighbors": 4, **BALANCED}
    whole = 2 * math.ceil(5 / accumulate)  # balanced batches have 6 images
    strategies = [
        train(strategy, stream(), tmp_path / name, every=None)
        for name, strategy in (
            ("steps", made(whole, 2, FDAPlugin(**fda), accumulate=accumulate)),
            ("epochs", made(None, 2, FDAPlugin(**fda), **other)),
        )
    ]
    assert alike(*strategies)


@pytest.mark.parametrize(("accumulate", "balanced"), [(1, True), (1, False), (2, False)])
def test_a_training_by_steps_goes_on_where_it_was_broken_off(
    tmp_path: Path, accumulate: int, balanced: bool
) -> None:
    """Batches of 6 if they are balanced, and 5 of them an epoch; else 4 batches an epoch."""
    steps, images = 7 if balanced else 6 // accumulate, stream()

    def fresh(step: int | None = None, in_evaluation: bool = False) -> Any:
        batches: Any = BALANCED if balanced else {"hard_class_batches": False}
        fda = FDAPlugin(num_neighbors=4, **batches)
        own = made(steps, 2, fda, BreakOff(step), accumulate=accumulate)
        own.plugins.append(BreakOffInEvaluation(in_evaluation))
        return own

    whole = train(fresh(), images, tmp_path / "whole", every=None)
    for step in (5, 8, None):  # None: after the last step of an experience
        folder = tmp_path / str(step)
        with pytest.raises(BrokenOffError):
            train(fresh(step, step is None), images, folder, every=1 if step else None)
        again = train(fresh(), images, folder, every=None)
        assert alike(whole, again), step
        assert again.timer.forwards == whole.timer.forwards


def test_a_loader_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="6 steps are 2 epochs of 4 batches, but 3 epochs"):
        train(made(6, 3), stream(), tmp_path, every=None)


def settings(data: Path, **train: Any) -> Any:
    return config(
        data,
        method="lp-ft",
        panel={"sets": []},
        stream={"kind": "sequence", "sets": ["folder:photo", "folder:sketch"]},
        train={"lr": 1e-3, "batch": 32, "eval_batch": 50, **train},
    )


def test_a_run_has_the_planned_steps(data: Path) -> None:
    own = settings(data, steps=[4, 2])
    images = load_stream(own, views_of(own))  # 66 images a set, 30 a balanced batch
    assert (epochs_of(own, images), steps_of(own, images)) == ([2, 1], [4, 2])
    assert planned_steps(own, images) == 6
    assert planned_steps(settings(data, steps=4, accumulate=2), images) == 2 * 6
    record: Any = run(own)
    assert record.cost.steps == 6 and [len(t["Loss"]) for t in record.outcome.loss_terms] == [2, 1]
    assert own.identity != settings(data).identity
    with pytest.raises(ValueError, match=r"train\.steps has 3 entries, the stream 2 experiences"):
        planned_steps(settings(data, steps=[1, 2, 3]), images)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 0}, "train.steps"),
        ({"steps": [3, 0]}, "train.steps"),
        ({"steps": 1.5}, "train.steps"),
        ({"steps": 5, "epochs": 2}, "train.steps=5 and train.epochs=2 both set the length"),
        ({"steps": 5, "epochs": [1, 1]}, r"train.epochs=\(1, 1\)"),
    ],
    ids=str,
)
def test_other_values_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises((ValidationError, ValueError), match=words) as told:
        read({"train": values})
    assert "train.steps" in complaint(told.value)  # type: ignore[arg-type]
