"""Requests to stop by a signal: what is installed, counted, and raised."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from avalanche_proxyfda.checkpoint import signals
from avalanche_proxyfda.checkpoint.signals import StopSignals


class Training:
    """A strategy whose training is one call."""

    def train(self, act: Callable[[], None]) -> None:
        act()


@pytest.fixture
def stop() -> Iterator[tuple[Training, StopSignals]]:
    training: Any = Training()
    stop = StopSignals(training)
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    stop.install()
    yield training, stop
    stop.restore()
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def test_a_signal_in_training_is_a_request(stop: tuple[Training, StopSignals]) -> None:
    training, signals_of = stop
    assert not signals_of.requested
    training.train(send)
    training.train(lambda: send(signal.SIGINT))  # within the patience: the same request
    assert signals_of.requested
    with pytest.raises(SystemExit) as ended:
        signals_of.leave()
    assert ended.value.code == 143 and not signals_of.requested


def test_a_later_signal_ends_the_process_at_once(
    stop: tuple[Training, StopSignals], monkeypatch: pytest.MonkeyPatch
) -> None:
    training, signals_of = stop
    training.train(lambda: send(signal.SIGINT))
    assert signals_of.requested
    monkeypatch.setattr(signals, "_PATIENCE", -1.0)
    with pytest.raises(KeyboardInterrupt):
        training.train(send)


def test_a_signal_outside_of_training_ends_the_process(
    stop: tuple[Training, StopSignals],
) -> None:
    with pytest.raises(SystemExit):
        send()
    stop[1].install()
    with pytest.raises(SystemExit):
        Training().train(send)  # the training of another strategy


def test_a_new_training_drops_the_request(stop: tuple[Training, StopSignals]) -> None:
    training, signals_of = stop
    training.train(send)
    signals_of.reset()
    assert not signals_of.requested
