"""Passes that rank 0 alone makes: the other ranks run no forward, and get the values."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_proxyfda.distributed import DistributedTraining
from avalanche_proxyfda.metrics import LinearProbeMetric, Panel, PanelMetric, PanelSet
from benchmarks.config import read
from benchmarks.experiment.run import _Accuracies
from tests.distributed.pool import Pool
from tests.methods import toy_plugin
from tests.plugins.toys import Blobs, Plain, classic, strategy

PASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "prototypes": (
        "fda",
        {"classes_per_batch": 2, "mining": "prototypes", "teacher_cache": "off"},
    ),
    "bank": ("fda", {"classes_per_batch": 2, "mining": "bank", "teacher_cache": "off"}),
    "probes": ("lp-ft", {}),
}


class Counting(nn.Module):
    """Counts the rows that it reads, and that its copies read."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = Rows()

    def forward(self, x: Tensor) -> Tensor:
        self.rows.count += len(x)
        return x


class Rows:
    """A number that copies of a module share."""

    def __init__(self) -> None:
        self.count = 0

    def __deepcopy__(self, memo: Any) -> Rows:
        return self


class BeforeSteps(SupervisedPlugin[Any], supports_distributed=True):
    """Notes the rows that were read before the first step."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows, self.found = rows, -1

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_iterations == 0:
            self.found = self.rows.count


def counted() -> tuple[Plain, Rows]:
    model, counting = Plain(dropout=0.0), Counting()
    model.backbone[0] = nn.Sequential(counting, model.backbone[0])
    return model, counting.rows


def rows_before_training(kind: str) -> tuple[int, dict[str, Tensor], list[Any]]:
    """Train; return the rows that were read before the first step, weights and panel values."""
    torch.manual_seed(0)
    model, rows = counted()
    metrics: list[PanelMetric] = []
    plugins: list[Any] = []
    if kind in PASSES:
        method, options = PASSES[kind]
        plugins.append(toy_plugin(method, **options))
    if kind == "panel":
        panel = Panel([PanelSet("a", Blobs(40, 3, seed=5), Blobs(31, 3, seed=6))])
        metrics.append(LinearProbeMetric(panel))
    watch = BeforeSteps(rows)
    made = strategy(model, DistributedTraining(), *plugins, watch)
    made.evaluator.metrics.extend(metrics)
    made.train(classic(2).train_stream[0], eval_streams=[])
    return watch.found, made.model.state_dict(), [metric.history for metric in metrics]


@pytest.mark.parametrize(
    ("kind", "read"), [("none", 0), ("prototypes", 60), ("bank", 60), ("probes", 60), ("panel", 71)]
)
def test_rank_0_reads_the_data_before_training(pool: Pool, kind: str, read: int) -> None:
    (main, weights, values), (other, weights_of_1, values_of_1) = pool.run(
        rows_before_training, kind
    )
    assert (main, other) == (read, 0)
    assert all(torch.equal(weights_of_1[name], value) for name, value in weights.items())
    assert values == values_of_1 and bool(values) == (kind == "panel")


def accuracies_of_run() -> tuple[Any, Any, int]:
    """Return test and validation accuracies of a run, and the rows that this rank read."""
    model, rows = counted()
    streams = classic(3)
    stream = SimpleNamespace(
        tasks=False, grows=False, test=streams.test_stream, validation=streams.train_stream
    )
    prepared: Any = SimpleNamespace(model=model, stream=stream, device=torch.device("cpu"))
    accuracies = _Accuracies(read({"train": {"lr": 1e-4, "eval_batch": 16}}), prepared)
    return accuracies.test_from(1), accuracies.validation(0, 2), rows.count


def test_rank_0_computes_the_accuracies_of_a_run(pool: Pool) -> None:
    test, validation, rows = accuracies_of_run()
    assert len(test) == len(validation) == 2 and rows == 2 * 20 + 2 * 40
    assert pool.run(accuracies_of_run) == [(test, validation, rows), (test, validation, 0)]
