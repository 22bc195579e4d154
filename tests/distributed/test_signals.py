"""A signal to one of two ranks: both save, end with one status, and resume to the same results."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from avalanche.training.plugins import SupervisedPlugin
from torch import distributed

from avalanche_proxyfda.checkpoint import signals
from avalanche_proxyfda.checkpoint.checkpoints import Checkpoints
from avalanche_proxyfda.distributed import DistributedTraining
from avalanche_proxyfda.distributed.ranks import max_over_ranks
from tests.checkpoint.training import build, train
from tests.distributed.pool import Pool
from tests.distributed.test_checkpoints import METHODS, equal
from tests.methods import toy_plugins
from tests.plugins.toys import Growing, Plain, classic, modern


class Signals(SupervisedPlugin[Any], supports_distributed=True):
    """Sends signals to this process at one moment of a training."""

    def __init__(self, moment: str | None = None, step: int = 0, *numbers: int) -> None:
        super().__init__()
        self.moment, self.step, self.numbers = moment, step, numbers

    def send(self, moment: str, strategy: Any) -> None:
        if (moment, strategy.clock.train_iterations) == (self.moment, self.step):
            for number in self.numbers:
                os.kill(os.getpid(), number)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.send("experience", strategy)

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.send("step", strategy)

    def after_eval_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.send("evaluation", strategy)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        pass


def learn(
    folder: Path, methods: str, sent: dict[int, tuple[Any, ...]], at_once: bool = False
) -> dict[str, Any]:
    """Train two experiences of three epochs; ``sent`` has the signals that each rank gets."""
    model, stream = (Growing, modern(2)) if methods == "several" else (Plain, classic(2))
    own = Signals(*sent.get(distributed.get_rank(), ()))
    plugins = [DistributedTraining(), own, *toy_plugins(METHODS[methods])]
    made = build(model, *plugins, train_epochs=3)
    numbers = (signal.SIGTERM, signal.SIGINT)
    before, patience = [signal.getsignal(n) for n in numbers], signals._PATIENCE
    signals._PATIENCE = -1.0 if at_once else patience
    status: Any = None
    try:
        train(made, stream, folder, every=None)
    except SystemExit as error:
        status = error.code
    except KeyboardInterrupt:
        status = "KeyboardInterrupt"
    finally:
        signals._PATIENCE = patience
    assert [signal.getsignal(n) for n in numbers] == before
    metrics = made.evaluator.get_all_metrics().items()
    return {
        "status": status,
        "steps": made.clock.train_iterations,
        "weights": made.model.state_dict(),
        "metrics": repr([(k, v) for k, v in metrics if "cache_hit_rate" not in k]),
    }


def place_of(folder: Path, methods: str) -> tuple[str, int]:
    """Return the place at which a training would resume, and the number of finished epochs."""
    model = Growing if methods == "several" else Plain
    made = build(
        model, DistributedTraining(), Signals(), *toy_plugins(METHODS[methods]), train_epochs=3
    )
    found = Checkpoints(made, folder).resume()
    assert found is not None
    return found.source, made.clock.train_exp_epochs


TERM, INT = signal.SIGTERM, signal.SIGINT


@pytest.mark.parametrize(
    ("methods", "sent", "status", "steps", "place"),
    [
        ("several", {1: ("step", 4, TERM)}, 143, 6, "0 experiences, and 6 steps of the next"),
        ("bank", {0: ("step", 4, TERM)}, 143, 6, "0 experiences, and 6 steps of the next"),
        ("bank", {1: ("step", 8, INT)}, "KeyboardInterrupt", 9, "1 experiences"),
        ("bank", {0: ("step", 1, INT), 1: ("step", 2, TERM)}, 143, 3, None),
        ("several", {1: ("evaluation", 9, TERM)}, 143, 9, "1 experiences"),
        ("several", {1: ("experience", 9, TERM)}, 143, 9, "1 experiences, and 0 steps of the next"),
    ],
    ids=["rank-1", "rank-0", "last-epoch", "both", "evaluation", "before-the-first-epoch"],
)
def test_a_signal_to_a_rank_ends_all_after_a_save(
    pool: Pool, tmp_path: Path, methods: str, sent: Any, status: Any, steps: int, place: str | None
) -> None:
    ended = pool.run(learn, tmp_path / "ended", methods, sent)
    assert [(rank["status"], rank["steps"]) for rank in ended] == [(status, steps)] * 2
    sources = {source for source, _ in pool.run(place_of, tmp_path / "ended", methods)}
    expected = place or "0 experiences, and 3 steps of the next"
    assert sources == {f"checkpoint.safetensors: {expected}"}
    whole = pool.run(learn, tmp_path / "whole", methods, {})
    assert equal(pool.run(learn, tmp_path / "ended", methods, {}), whole)
    assert whole[0]["status"] is None and whole[0]["steps"] == 18


def test_a_second_signal_ends_the_rank_at_once(pool: Pool, tmp_path: Path) -> None:
    sent = dict.fromkeys((0, 1), ("step", 4, TERM, TERM))
    ended = pool.run(learn, tmp_path, "bank", sent, at_once=True)
    assert [(rank["status"], rank["steps"]) for rank in ended] == [(143, 4)] * 2
    assert not list(tmp_path.glob("*.safetensors"))


def largest() -> list[int]:
    rank = distributed.get_rank()
    return max_over_ranks([rank, 15 * (rank == 0), -rank])


def test_ranks_agree_on_the_largest_numbers(pool: Pool) -> None:
    assert max_over_ranks([3, 0]) == [3, 0]
    assert pool.run(largest) == [[1, 15, 0], [1, 15, 0]]
