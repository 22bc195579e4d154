"""Times of steps, the wait for the loader, and the logged loss."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.evaluation import metrics
from avalanche.training.plugins import EvaluationPlugin
from torch import Tensor, nn

from avalanche_proxyfda.models import UnitHeads
from avalanche_proxyfda.models.task_labels import note_tasks, tasks_in
from benchmarks.experiment import stopwatch
from benchmarks.experiment.epoch_loss import EpochLoss
from benchmarks.experiment.loop import ObservedEfficientNaive, ObservedNaive
from benchmarks.experiment.stopwatch import Stopwatch
from benchmarks.experiment.training import StepTimer
from tests.plugins.toys import Blobs, Plain, classic

CPU = torch.device("cpu")


class LateEvent:
    """An event that is past only after somebody has waited for it."""

    def __init__(self, number: float) -> None:
        self.number, self.past = number, False

    def query(self) -> bool:
        return self.past

    def synchronize(self) -> None:
        self.past = True

    def elapsed_time(self, end: LateEvent) -> float:
        return 1000 * (end.number - self.number)


def test_events_are_read_when_they_are_past(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [LateEvent(number) for number in (1.0, 3.0, 4.0, 4.5)]
    order = iter(events)
    monkeypatch.setattr(stopwatch, "has_events", lambda device: True)
    monkeypatch.setattr(stopwatch, "recorded_event", lambda device: next(order))
    watch = Stopwatch()
    for _ in range(2):
        watch.start(CPU)
        watch.stop(CPU)
    assert not any(event.past for event in events)
    assert watch.seconds == [2.0, 0.5]
    assert [event.past for event in events] == [False, False, False, True]
    watch.load([7.0])
    assert watch.seconds == [7.0]


def test_a_device_without_events_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[Any] = []
    monkeypatch.setattr(stopwatch, "synchronize", waits.append)
    watch = Stopwatch()
    watch.start(CPU)
    time.sleep(0.01)
    watch.stop(CPU)
    assert watch.seconds[0] >= 0.01 and waits == [CPU, CPU]


@pytest.mark.parametrize("steps", [3, 250])
def test_the_logged_loss_is_avalanches_to_the_bit(steps: int) -> None:
    own, avalanches = EpochLoss(), metrics.EpochLoss()
    source = torch.Generator().manual_seed(0)
    for epoch in range(2):
        for one in (own, avalanches):
            one.reset()
        for step in range(steps):
            if epoch and step == 2:  # a checkpoint within the epoch
                state = own.state_dict()
                own = EpochLoss()
                own.load_state_dict(state)
            loss, labels = torch.rand((), generator=source), torch.zeros(1 + step % 3)
            for one in (own, avalanches):
                one.update(SimpleNamespace(loss=loss, mb_y=labels))
        assert own.result() == avalanches.result() > 0
    assert str(own) == str(avalanches)


class SlowBlobs(Blobs):
    """Images that take a while to load."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        time.sleep(0.002)
        return super().__getitem__(index)


@pytest.mark.parametrize("options", [{}, {"precision": "bf16", "accumulate": 2}], ids=str)
def test_the_wait_for_the_loader_is_no_part_of_a_step(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.plugins.toys.Blobs", SlowBlobs)
    timer, model = StepTimer(), Plain()
    kind: Any = ObservedEfficientNaive if options else ObservedNaive
    strategy = kind(
        timer=timer,
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=12,
        plugins=[timer],
        evaluator=EvaluationPlugin(loggers=[]),
        **options,
    )
    (experience,) = classic(1, count=48).train_stream
    strategy.train(experience, eval_streams=[])
    waited = timer.loader_seconds
    assert len(timer.seconds) == 4 and waited >= 48 * 0.002
    strategy.eval([experience])
    assert timer.loader_seconds == waited
    again = StepTimer()
    again.load_state_dict(timer.state_dict())
    assert (again.seconds, again.loader_seconds) == (timer.seconds, waited)


def test_heads_read_no_labels_whose_tasks_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    heads, rows = UnitHeads(4, [2, 3]), torch.randn(5, 4)
    labels = torch.tensor([0, 1, 1, 0, 1])
    expected, single = heads(rows, labels), heads(rows, labels * 0 + 1)
    note_tasks(labels, labels.clone())
    ones = labels * 0 + 1  # a derived tensor has no note
    note_tasks(ones, ones.clone())
    monkeypatch.setattr(Tensor, "tolist", lambda self: pytest.fail("the host reads labels"))
    assert torch.equal(heads(rows, labels), expected)
    assert torch.equal(heads(rows, ones), single)
    assert tasks_in(labels) == [0, 1] and tasks_in(1) == [1]
