"""Accuracies on several sets: one loader for all gives the bits of a loader for each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.models.utils import avalanche_forward, avalanche_model_adaptation
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.config import read
from benchmarks.experiment import measure
from benchmarks.experiment.measure import accuracies
from tests.loaders import worker_starts
from tests.plugins.toys import Multi, Plain, classic, modern, tasks

CPU = torch.device("cpu")
STREAMS = {"classic": (classic, Plain), "modern": (modern, Plain), "tasks": (tasks, Multi)}


class Recorded(nn.Module):
    """Notes the logits of each batch."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.logits: list[Tensor] = []
        model.register_forward_hook(lambda *given: self.logits.append(given[-1].clone()))


def one_at_a_time(model: nn.Module, data: Any, batch: int) -> float:
    """Accuracy by a loader of its own."""
    loader = DataLoader(data.eval(), batch_size=batch, collate_fn=data.collate_fn)
    right = 0
    with torch.no_grad():
        for images, labels, *numbers in loader:
            logits = avalanche_forward(model, images, numbers[0] if numbers else None)
            right += int((logits.argmax(dim=1) == labels).sum())
    return right / len(data)


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("workers", [0, 1])
def test_one_loader_reads_several_sets(
    kind: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, build = STREAMS[kind]
    stream = make() if kind == "tasks" else make(3)
    sets = [experience.dataset for experience in stream.test_stream]
    recorded = Recorded(build())
    model = recorded.model
    if kind == "tasks":
        for experience in stream.train_stream:
            avalanche_model_adaptation(model, experience)
    model.eval()
    expected = tuple(one_at_a_time(model, data, 16) for data in sets)
    logits, recorded.logits = recorded.logits, []
    model.train()
    model.backbone[2].eval()  # type: ignore[index]
    starts = worker_starts(monkeypatch)
    config = read({"train": {"lr": 1e-4, "eval_batch": 16, "workers": workers}})
    state = torch.get_rng_state()
    assert accuracies(model, sets, config, CPU) == expected
    assert starts == [1] * workers and torch.equal(torch.get_rng_state(), state)
    assert len(set(expected)) > 1 and len(logits) >= 2 * len(sets)
    assert len(logits) == len(recorded.logits)
    assert all(map(torch.equal, recorded.logits, logits))
    assert model.training and not model.backbone[2].training  # type: ignore[index]
    assert accuracies(model, [], config, CPU) == () and starts == [1] * workers


def test_every_tensor_of_a_batch_is_sent_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []

    def sent(values: Tensor, device: torch.device) -> Tensor:
        found.append(values.dim())
        return values.to(device)

    monkeypatch.setattr(measure, "sent", sent)
    (experience, *_) = classic(3).test_stream
    config = read({"train": {"lr": 1e-4, "eval_batch": 20}})
    accuracies(Plain(), [experience.dataset], config, CPU)
    assert sorted(found) == [1, 1, 4]  # labels, tasks and images
