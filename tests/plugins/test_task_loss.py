"""The loss of the task is published apart from the terms that plugins add to it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.evaluation.metrics import loss_metrics
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from torch import nn

from avalanche_proxyfda import EfficientNaive
from avalanche_proxyfda.metrics import MetricsCSVLogger
from tests.methods import PLUGINS, toy_plugin
from tests.plugins.toys import Plain, classic

END = "_Epoch/train_phase/train_stream"
LOSS = f"Loss{END}/Task000"
"""Avalanche's own loss, which all terms are in."""


class Losses(SupervisedPlugin[Any]):
    """The criterion's values, by sample, and the number of samples."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        loss = nn.functional.cross_entropy(strategy.mb_output, strategy.mb_y, reduction="none")
        self.values += loss.detach().double().tolist()


def trained(*plugins: Any, loggers: Any = (), kind: Any = Naive, **options: Any) -> Any:
    torch.manual_seed(0)
    model = Plain(dropout=0.0)
    made = kind(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        criterion=nn.CrossEntropyLoss(),
        plugins=list(plugins),
        evaluator=EvaluationPlugin(loss_metrics(epoch=True), loggers=list(loggers)),
        **{"train_mb_size": 20, "eval_mb_size": 60, **options},
    )
    made.train(classic(2).train_stream[0], eval_streams=[])
    return made


@pytest.mark.parametrize("method", PLUGINS)
def test_the_task_loss_is_that_of_the_criterion(method: str) -> None:
    losses = Losses()
    made = trained(toy_plugin(method), losses)
    metrics = made.evaluator.get_last_metrics()
    expected = sum(losses.values) / len(losses.values)
    assert metrics[f"Task_Loss{END}"] == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_the_task_loss_and_the_terms() -> None:
    methods = {"l2sp": 0.5, "fda": 0.7, "proxy-fda": 2.0, "rkd": 0.1, "ldifs": 1.5}
    plugins = [toy_plugin(m, strength=s) for m, s in methods.items()]
    metrics = trained(*plugins).evaluator.get_last_metrics()
    strengths = {
        "L2SP_distance": 0.5,
        "FDA_alignment": 0.7,
        "ProxyFDA_alignment": 2.0,
        "ProxyFDA_generator": 1.0,
        "RKD_relations": 0.1,
        "LDIFS_distance": 1.5,
    }
    terms = sum(factor * metrics[f"{name}{END}"] for name, factor in strengths.items())
    assert metrics[f"ProxyFDA_generator{END}"] > 1
    total = metrics[LOSS]
    assert metrics[f"Task_Loss{END}"] + terms == pytest.approx(total, rel=1e-5)


def test_samples_weigh_alike_in_batches_of_different_size() -> None:
    losses = Losses()
    made = trained(toy_plugin("fda", hard_class_batches=False), losses, train_mb_size=25)
    assert len(losses.values) == 60  # 25, 25 and 10
    metrics = made.evaluator.get_last_metrics()
    expected = sum(losses.values) / 60
    assert metrics[f"Task_Loss{END}"] == pytest.approx(expected, rel=1e-5)


def test_a_whole_step_of_micro_batches() -> None:
    losses = Losses()
    own = toy_plugin("fda", graph_from="accumulated", hard_class_batches=False)
    made = trained(own, losses, kind=EfficientNaive, accumulate=2)
    metrics = made.evaluator.get_last_metrics()
    expected = sum(losses.values) / len(losses.values)
    assert metrics[f"Task_Loss{END}"] == pytest.approx(expected, rel=1e-5)


def test_one_plugin_publishes_it() -> None:
    made = trained(*(toy_plugin(method) for method in ("lp-ft", "l2sp", "fda")), train_epochs=3)
    _, values = made.evaluator.get_all_metrics()[f"Task_Loss{END}"]
    assert len(values) == 3 and len(set(values)) == 3


def test_the_csv_logger_keeps_all_terms_and_nothing_that_was_not_measured(tmp_path: Path) -> None:
    logger = MetricsCSVLogger(tmp_path / "logs" / "metrics.csv")
    plugin = toy_plugin("proxy-fda", teacher_cache="off")
    made = trained(plugin, loggers=[logger], train_epochs=2)
    logger.close()
    lines = [line.split(",") for line in logger.path.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == ["step", "metric", "value"]
    terms = ("Task_Loss", "ProxyFDA_alignment", "ProxyFDA_generator")
    names = [LOSS, *(f"{term}{END}" for term in terms)]
    assert {name for _, name, _ in lines[1:]} == set(names)
    for name in names:
        _, values = made.evaluator.get_all_metrics()[name]
        written = [float(value) for _, metric, value in lines if metric == name]
        assert written == [float(value) for value in values]


def test_the_csv_logger_goes_on_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for append, value in ((True, 1.5), (True, torch.tensor([2.5])), (True, torch.zeros(2, 2))):
        logger = MetricsCSVLogger(path, append)
        logger.log_single_metric("a, b", value, 3)
        logger.close()
    assert path.read_text(encoding="utf-8") == 'step,metric,value\n3,"a, b",1.5\n3,"a, b",2.5\n'
    MetricsCSVLogger(path, append=False).close()
    assert path.read_text(encoding="utf-8") == "step,metric,value\n"
    with pytest.raises(ValueError, match="append='yes' is unknown"):
        MetricsCSVLogger(path, "yes")  # type: ignore[arg-type]


def test_a_file_of_an_earlier_training_is_moved_aside_at_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for value, words in ((1.0, None), (2.0, "earlier training"), (3.0, "previous-2.csv")):
        MetricsCSVLogger(path).close()  # without a line, the file stays as it is
        logger = MetricsCSVLogger(path)
        with pytest.warns(UserWarning, match=words) if words else nullcontext():
            logger.log_single_metric("loss", value, 7)
        logger.close()
    names = ("metrics.previous.csv", "metrics.previous-2.csv", "metrics.csv")
    texts = [(tmp_path / name).read_text(encoding="utf-8") for name in names]
    assert texts == [f"step,metric,value\n7,loss,{value}\n" for value in (1.0, 2.0, 3.0)]


def test_a_cut_line_is_ended_and_other_columns_are_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,metric,value\n3,lo", encoding="utf-8")
    logger = MetricsCSVLogger(path, append=True)
    logger.log_single_metric("loss", 1.0, 3)
    logger.close()
    assert path.read_text(encoding="utf-8") == "step,metric,value\n3,lo\n3,loss,1.0\n"
    path.write_text("epoch,loss\n0,1\n", encoding="utf-8")
    logger = MetricsCSVLogger(path, append=True)
    with pytest.warns(UserWarning, match="has other columns"):
        logger.log_single_metric("loss", 1.0, 3)
    logger.close()
    assert path.read_text(encoding="utf-8") == "step,metric,value\n3,loss,1.0\n"
    aside = tmp_path / "metrics.previous.csv"
    assert aside.read_text(encoding="utf-8") == "epoch,loss\n0,1\n"
