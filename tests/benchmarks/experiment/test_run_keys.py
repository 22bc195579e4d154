"""Steps, rates, labels and texts of training: their keys, and what a run makes of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.training.plugins import SupervisedPlugin
from pydantic import ValidationError
from torch import nn

from avalanche_proxyfda import FDAPlugin
from benchmarks.config import complaint, read
from benchmarks.experiment import run as run_module
from benchmarks.experiment.loop import ObservedEfficientNaive, ObservedNaive
from benchmarks.experiment.prepare import epochs_of, factors_of, planned_steps, steps_of
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


def settings(data: Path, train: dict[str, Any], **changes: Any) -> Any:
    return config(
        data,
        panel={"sets": []},
        stream={"kind": "sequence", "sets": ["folder:photo", "folder:sketch"]},
        train={"lr": 1e-5, "batch": 32, "eval_batch": 50, "warm_up": 0, **train},
        **changes,
    )


def test_a_run_follows_its_plan(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps, rates and labels of each experience, and texts of training and evaluation."""
    rates: list[float] = []
    checked: list[str] = []
    calls: list[int] = []  # sets of each call
    passes = Counter[str]()  # over data sets: those of Avalanche's loop, and our own
    measure_accuracies = run_module.accuracies_of

    def measured(model: Any, sets: Any, *given: Any) -> tuple[float, ...]:
        passes.update("validation" if len(data) in held else "test" for data in sets)
        calls.append(len(sets))
        return measure_accuracies(model, sets, *given)

    class Look(StepTimer):
        def before_update(self, strategy: Any, **kwargs: Any) -> None:
            rates.append(strategy.optimizer.param_groups[0]["lr"])

        def before_backward(self, strategy: Any, **kwargs: Any) -> None:
            smoothed = nn.CrossEntropyLoss(label_smoothing=0.2)
            self.expect(strategy, smoothed, "train_weight")

        def after_eval_exp(self, strategy: Any, **kwargs: Any) -> None:
            passes["evaluated"] += 1

        def after_eval_iteration(self, strategy: Any, **kwargs: Any) -> None:
            self.expect(strategy, nn.CrossEntropyLoss(), "weight")

        def expect(self, strategy: Any, loss: nn.Module, texts: str) -> None:
            model = strategy.model
            head = model.head.heads[int(strategy.mb_task_id[0])]
            rows = nn.functional.normalize(model.tower.eval()(strategy.mb_x), dim=1)
            logits = head.scale * rows @ getattr(head, texts).T
            torch.testing.assert_close(strategy.mb_output, logits)
            torch.testing.assert_close(strategy.loss.squeeze(), loss(logits, strategy.mb_y))
            checked.append(texts)

    monkeypatch.setattr(run_module, "StepTimer", Look)
    monkeypatch.setattr(run_module, "accuracies_of", measured)
    keys: dict[str, Any] = {"steps": [4, 2], "lr_factors": [5, 1], "label_smoothing": 0.2}
    texts = {"kind": "zero-shot", "train_template": "a {}."}
    own = settings(data, keys, head=texts)
    images = load_stream(own, views_of(own))  # 66 images a set, 30 a balanced batch
    assert (epochs_of(own, images), steps_of(own, images)) == ([2, 1], [4, 2])
    assert planned_steps(own, images) == 6
    assert planned_steps(settings(data, {"steps": 4, "accumulate": 2}), images) == 2 * 6
    assert images.validation is not None
    held = {len(each.dataset) for each in images.validation}
    assert not held & {len(each.dataset) for each in images.test}
    record: Any = run(own)
    # row 0 is ours, and each later row is Avalanche's up to the diagonal and ours beyond it
    assert passes == {"test": 2 + 1, "evaluated": 1 + 2, "validation": 2 + 1}
    assert calls == [2, 1, 1, 0, 1, 1]  # one pass before training reads both test sets
    assert record.outcome.validation_last[1] == record.outcome.validation_learnt[1]
    assert record.cost.steps == 6 and [len(t["Loss"]) for t in record.outcome.loss_terms] == [2, 1]
    assert checked.count("train_weight") == 6 and checked.count("weight") > 0
    cosine = [0.5 * (1 + math.cos(math.pi * k / n)) for n in (4, 2) for k in range(n)]
    peaks = [5e-5] * 4 + [1e-5] * 2
    expected = [peak * share for peak, share in zip(peaks, cosine, strict=True)]
    assert rates == pytest.approx(expected)
    others = [settings(data, {key: value}) for key, value in keys.items()]
    others += [settings(data, {}, head={"kind": "zero-shot"}), settings(data, {}, head=texts)]
    assert len({other.identity for other in [own, *others]}) == 6
    with pytest.raises(
        ValueError, match=r"train\.steps has 3 entries, and the stream has 2 experiences: give"
    ):
        planned_steps(settings(data, {"steps": [1, 2, 3]}), images)
    with pytest.raises(ValueError, match=r"train\.lr_factors has 1 entries, and the stream has 2"):
        factors_of(settings(data, {"lr_factors": [1]}), images)
    first, second = own.stream.learnt
    assert factors_of(settings(data, {"lr_factors": {second: 5}}), images) == [1, 5]
    with pytest.raises(ValueError, match=rf"lr_factors names MNIST, and the stream learns {first}"):
        factors_of(settings(data, {"lr_factors": {"MNIST": 5}}), images)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 0}, "train.steps"),
        ({"steps": [3, 0]}, "train.steps"),
        ({"steps": 1.5}, "train.steps"),
        ({"steps": 5, "epochs": 2}, "train.steps=5 and train.epochs=2 both set the length"),
        ({"steps": 5, "epochs": [1, 1]}, r"train.epochs=\(1, 1\)"),
        ({"lr_factors": [1, 0]}, "train.lr_factors"),
        ({"lr_factors": [float("inf")]}, "train.lr_factors"),
        ({"label_smoothing": 1}, "train.label_smoothing"),
        ({"label_smoothing": -0.1}, "train.label_smoothing"),
    ],
    ids=str,
)
def test_other_values_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as told:
        read({"train": values})
    assert re.search(words, complaint(told.value))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"kind": "probe"}, "head.kind=probe does not train with texts"),
        ({"kind": "text-start"}, "head.kind=text-start does not train with texts"),
        ({"kind": "zero-shot", "train_template": "a photo"}, "must hold {} once, in the place"),
    ],
    ids=str,
)
def test_a_template_that_no_head_trains_with_is_refused(head: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        read({"head": {"train_template": "a {}.", **head}})
