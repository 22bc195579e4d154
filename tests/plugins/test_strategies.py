"""Other strategies and streams: buffers, tasks, online parts, sizes of batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.training import ER_ACE, EWC, Cumulative, LwF, Replay
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_proxyfda import FDAPlugin
from tests.plugins.toys import (
    CLASSES,
    Blobs,
    Growing,
    Multi,
    Plain,
    classic,
    learn,
    strategy,
    tasks,
)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Cumulative, {}),
        (EWC, {"ewc_lambda": 0.1}),
        (LwF, {"alpha": 1.0, "temperature": 2.0}),
        (Replay, {"mem_size": 20}),
    ],
)
@pytest.mark.filterwarnings("ignore:hard_class_batches gives way")
@pytest.mark.filterwarnings("ignore:num_neighbors=4 is clamped")
def test_other_sgd_strategies(kind: Any, options: dict[str, Any]) -> None:
    own = FDAPlugin(num_neighbors=4)
    trained = strategy(Growing(), own, kind=kind, **options)
    learn(trained, classic(2))
    assert own.teacher_forwards == trained.clock.train_iterations > 5


def test_online_streams_keep_one_teacher_for_an_experience() -> None:
    from avalanche.benchmarks.scenarios.online import split_online_stream

    own = FDAPlugin(num_neighbors=4, hard_class_batches=False)
    made: list[Any] = []

    class Teachers(SupervisedPlugin[Any]):
        def before_forward(self, strategy: Any, **kwargs: Any) -> None:
            made.append(own.teacher)

    trained = strategy(Plain(), own, Teachers())
    for part in split_online_stream(classic(2).train_stream, 30):
        trained.train(part, eval_streams=[])
    assert len(made) == 8
    assert len({id(teacher) for teacher in made[:4]}) == 1
    assert len({id(teacher) for teacher in made[4:]}) == 1
    assert made[0] is not made[4]


def test_a_strategy_that_also_forwards_its_buffer() -> None:
    """ER-ACE runs the model on replayed images too, before the step's loss is made."""

    class Same(SupervisedPlugin[Any]):
        seen = 0

        def before_backward(self, strategy: Any, **kwargs: Any) -> None:
            assert own._student is not None
            with torch.no_grad():
                expected = strategy.model.backbone[1](strategy.mb_x.flatten(1))
            torch.testing.assert_close(own.pooled(own._student).detach(), expected)
            self.seen += 1

    own, same_features = FDAPlugin(feature_module="backbone.1", num_neighbors=4), Same()
    trained = strategy(Growing(), same_features, own, kind=ER_ACE, mem_size=40, batch_size_mem=24)
    learn(trained, classic(2))
    assert same_features.seen == trained.clock.train_iterations > 5


def test_prototypes_see_the_evaluation_view_and_steps_the_training_view() -> None:
    from avalanche.benchmarks import nc_benchmark

    from avalanche_proxyfda.teacher.cached import CachedTeacher

    def brighter(image: Tensor) -> Tensor:
        return image + 1000

    benchmark = nc_benchmark(
        Blobs(),
        Blobs(60, seed=1),
        1,
        task_labels=False,
        fixed_class_order=list(range(CLASSES)),
        train_transform=brighter,
        eval_transform=None,
    )
    bright: list[bool] = []

    class Spy(CachedTeacher):
        def values(self, images: Tensor, *args: Any, **kwargs: Any) -> Any:
            bright.append(bool(images.min() > 500))
            return super().values(images, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avalanche_proxyfda.plugins.base.features.CachedTeacher", Spy)
        own = FDAPlugin(num_neighbors=4, classes_per_batch=2)
        trained = strategy(Plain(), own)
        trained.train(benchmark.train_stream[0], eval_streams=[])
    steps = trained.clock.train_iterations
    assert bright == [False] * 2 + [True] * steps  # 120 images in two evaluation batches


def test_class_balance_over_tasks_with_labels_of_their_own() -> None:
    sizes: list[set[int]] = []

    class Tasks(SupervisedPlugin[Any]):
        def before_forward(self, strategy: Any, **kwargs: Any) -> None:
            pairs = list(zip(strategy.mb_task_id.tolist(), strategy.mb_y.tolist(), strict=True))
            sizes.append({pairs.count(pair) for pair in set(pairs)})
            assert len(set(pairs)) == (3 if strategy.experience.current_experience == 0 else 8)

    own = FDAPlugin(
        feature_module="backbone", num_neighbors=4, classes_per_batch=8, samples_per_class=3
    )
    trained = strategy(Multi(), own, Tasks(), kind=Cumulative)
    learn(trained, tasks())
    assert all(found == {3} for found in sizes)


@pytest.mark.parametrize(
    ("classes", "m", "n", "budget", "expected"),
    [
        (10, 16, None, 64, (10, 6)),
        (40, 16, None, 64, (16, 4)),
        (20, 16, None, 24, (6, 4)),
        (20, 16, None, 128, (16, 8)),
        (5, 16, None, 4, (2, 2)),
        (20, 16, 8, 64, (8, 8)),
        (3, 16, 2, 24, (3, 2)),
    ],
)
def test_sizes_of_batches(
    classes: int, m: int, n: int | None, budget: int, expected: tuple[int, int]
) -> None:
    from avalanche_proxyfda.data.hard_class import HardClassBatches

    assert HardClassBatches(m, n, 0).sizes(classes, budget) == expected


def test_a_batch_without_room_for_two_classes_is_refused() -> None:
    trained = strategy(Plain(), FDAPlugin(samples_per_class=4, num_neighbors=2), train_mb_size=7)
    words = "train_mb_size=7 has no room for samples_per_class=4 of two classes: give .*=8 at least"
    with pytest.raises(ValueError, match=words):
        learn(trained, classic(1))
