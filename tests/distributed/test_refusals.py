"""Every rank refuses a setting that ranks cannot share, before any training step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

from avalanche_proxyfda import Checkpoints, EfficientNaive, FDAPlugin, L2SPPlugin
from avalanche_proxyfda.distributed import DistributedTraining, process_group
from tests.distributed.pool import Pool, RankError
from tests.distributed.work import Static, learn
from tests.plugins import toys


class OtherLoader(SupervisedPlugin[Any], supports_distributed=True):
    """Puts a loader of a rank's own samples in place."""

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        data = strategy.adapted_dataset
        strategy.dataloader = DataLoader(data, batch_size=8, sampler=DistributedSampler(data))


class Endless(SupervisedPlugin[Any], supports_distributed=True):
    """Puts something else in place."""

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        strategy.dataloader = [1, 2]


def train(case: str) -> None:
    """Train a step of something that is wrong."""
    rank = torch.distributed.get_rank()
    model: nn.Module = Static()
    first: list[Any] = [DistributedTraining()]
    options: dict[str, Any] = {}
    benchmark = toys.classic()
    if case == "alone":
        first = [FDAPlugin(num_neighbors=4)]
    elif case == "checkpoints":
        first = []
    elif case == "order":
        first = [L2SPPlugin(), DistributedTraining()]
    elif case == "wrapped":
        model = nn.parallel.DistributedDataParallel(model)
    elif case == "small":
        options["train_mb_size"] = 1
    elif case == "sampler":
        first.append(OtherLoader())
    elif case == "endless":
        first.append(Endless())
    elif case == "data":
        benchmark = toys.classic(count=120 + 12 * rank)
    elif case == "model":
        model = Static() if rank == 0 else toys.Plain()
    elif case in ("accumulated", "fp16"):
        options |= {"kind": EfficientNaive}
        options |= {"precision": "fp16"} if case == "fp16" else {"accumulate": 2}
    elif case == "graph":
        options |= {"kind": EfficientNaive}
        first.append(FDAPlugin(num_neighbors=4, graph_from="accumulated"))
    trained = toys.strategy(model, *first, **options)
    if case == "checkpoints":
        Checkpoints(trained, "nowhere")
    if case == "weights":
        trained._criterion = nn.CrossEntropyLoss(weight=torch.ones(toys.CLASSES))
    elif case == "sum":
        trained._criterion = nn.CrossEntropyLoss(reduction="sum")
    trained.train(benchmark.train_stream[0], eval_streams=[])


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("alone", r"2 ranks.*put DistributedTraining\(\) first"),
        ("order", "must be the first of plugins"),
        ("wrapped", "plain model, without DistributedDataParallel"),
        ("small", "train_mb_size=1 is the batch of all 2 ranks"),
        ("sampler", "no DistributedSampler"),
        ("endless", "is a list, which cannot be spread"),
        ("data", "the experience's labels differ between ranks"),
        ("model", "the model's tensors differ between ranks"),
        ("weights", "criterion weighs classes"),
        ("sum", "reduction='sum'"),
        ("accumulated", "accumulate=2, precision='float32'"),
        ("fp16", "accumulate=1, precision='fp16'"),
        ("graph", "graph_from='accumulated' is of one process"),
        ("checkpoints", r"put DistributedTraining\(\) first in plugins to save"),
    ],
)
def test_what_is_wrong_is_refused(pool: Pool, case: str, message: str) -> None:
    with pytest.raises(RankError, match=message):
        pool.run(train, case)


def test_a_wrapped_teacher_is_unwrapped(pool: Pool) -> None:
    one, other = pool.run(teacher_of_wrapped)
    assert one == other == 0.0


def teacher_of_wrapped() -> float:
    """Difference between a teacher of a wrapped model and the model."""
    from avalanche_proxyfda import FeatureSource, FeatureTeacher

    model = Static()
    source = FeatureSource.parse("backbone")
    teacher = FeatureTeacher(nn.parallel.DistributedDataParallel(model), [source])
    images = toys.Blobs(8).images
    found = teacher.values(images)[source] - model.backbone(images.double())
    return float(found.abs().max())


def test_without_a_group_the_plugin_does_nothing() -> None:
    with process_group() as device:
        assert device.type in ("cpu", "cuda")
    with_it, without = learn("fda"), learn("fda", plain=True)
    for name, value in without["weights"].items():
        assert torch.equal(with_it["weights"][name], value)


def test_devices_of_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="device='cuda:1'"), process_group("cuda:1"):
        pass
    monkeypatch.setenv("LOCAL_RANK", "99")
    with pytest.raises(ValueError, match="local rank 99 has no GPU"), process_group("cuda"):
        pass
