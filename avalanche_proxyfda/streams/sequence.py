"""Data sets one after the other, as an Avalanche benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor

from avalanche_proxyfda.streams.files.encoded import for_view
from avalanche_proxyfda.streams.files.folder_parts import listed
from avalanche_proxyfda.streams.files.labelled import DataSet


def dataset_sequence(
    sets: Sequence[DataSet],
    train_transforms: Transform | Sequence[Transform],
    eval_transforms: Transform | Sequence[Transform],
    shared_labels: bool = False,
    evaluate_on: Literal["validation", "test"] = "test",
) -> Any:
    """Build an Avalanche benchmark with one experience for each data set, in order.

    Args:
        sets: data sets with images of any size; see
            :func:`avalanche_proxyfda.streams.files.datasets.load`.
        train_transforms: training view of RGB images of PIL; one for all sets, or one a set.
        eval_transforms: evaluation view; one for all sets, or one a set.
        shared_labels: True gives all sets one label space and no task labels
            (domain-incremental learning); all sets need the same classes. False makes each set
            a task with its own labels from 0.
        evaluate_on: split of the test stream; ``"validation"`` for choosing settings.

    Returns:
        The benchmark; its ``summary`` lists the sets.

    Raises:
        ValueError: if there is no set, a set repeats, the number of transforms differs from the
            number of sets, a set has no image in the split ``evaluate_on``, or
            ``shared_labels`` is True and the classes differ.

    Example:
        >>> from avalanche_proxyfda import dataset_sequence
        >>> from avalanche_proxyfda.streams.files.labelled import DataSet, Labelled
        >>> from PIL import Image
        >>> from torchvision.transforms import ToTensor
        >>> images = [(Image.new("RGB", (8, 8)), 0)] * 6
        >>> splits = [Labelled(images, rows, targets=(0, 1)) for rows in ((0, 1), (2, 3), (4, 5))]
        >>> sets = [DataSet(name, ("cat", "dog"), *splits, note="") for name in ("photos", "art")]
        >>> stream = dataset_sequence(sets, ToTensor(), ToTensor()).train_stream
        >>> [(e.task_label, len(e.dataset), e.dataset[0][0].shape) for e in stream]
        [(0, 2, torch.Size([3, 8, 8])), (1, 2, torch.Size([3, 8, 8]))]
    """
    from avalanche.benchmarks import (
        benchmark_from_datasets,
        task_incremental_benchmark,
        with_classes_timeline,
    )
    from avalanche.benchmarks.utils import TransformGroups, as_classification_dataset

    names = [data.name for data in sets]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"sets={names} must be different data sets, at least one")
    if evaluate_on not in ("validation", "test"):
        raise ValueError(f"evaluate_on={evaluate_on!r} is unknown; choose 'validation' or 'test'")
    if shared_labels and len({data.classes for data in sets}) > 1:
        odd = next(data for data in sets if data.classes != sets[0].classes)
        raise ValueError(
            f"shared_labels=True, but {odd.name} has other classes than {sets[0].name}: "
            f"{_differing(odd, sets[0])}; give all sets the same classes, or shared_labels=False"
        )
    bare = [data.name for data in sets if not len(getattr(data, evaluate_on))]
    if bare:
        raise ValueError(
            f"evaluate_on={evaluate_on!r}, but {listed(bare)} has no {evaluate_on} image: load it "
            "with a validation_share above 0, or give evaluate_on='test'"
        )
    views = [_each(t, len(sets)) for t in (train_transforms, eval_transforms)]

    def stream(split: str) -> list[Any]:
        experiences = []
        for data, train, evaluation in zip(sets, *views, strict=True):
            groups = TransformGroups({"train": (train, None), "eval": (evaluation, None)})
            images = for_view(getattr(data, split), train if split == "train" else evaluation)
            experiences.append(as_classification_dataset(images, groups))
        return experiences

    plain = benchmark_from_datasets(train=stream("train"), test=stream(evaluate_on))
    benchmark: Any = with_classes_timeline(
        plain if shared_labels else task_incremental_benchmark(plain)
    )
    benchmark.summary = {
        "stream": "dataset-sequence",
        "shared_labels": shared_labels,
        "evaluate_on": evaluate_on,
        "sets": [
            {
                "name": data.name,
                "classes": len(data.classes),
                "train": len(data.train),
                "validation": len(data.validation),
                "test": len(data.test),
                "splits": data.note,
            }
            for data in sets
        ],
    }
    return benchmark


def _differing(first: DataSet, second: DataSet) -> str:
    """Classes that one of two data sets has alone, or that they have in another order."""
    sides = [
        f"{listed(alone)} in {one.name} alone"
        for one, other in ((first, second), (second, first))
        if (alone := [name for name in one.classes if name not in other.classes])
    ]
    return ", ".join(sides) or "the same classes in another order"


def _each(transforms: Transform | Sequence[Transform], count: int) -> list[Transform]:
    if callable(transforms):
        return [transforms] * count
    if len(transforms) != count:
        raise ValueError(
            f"{len(transforms)} transforms were given for {count} data sets: give one for each "
            "set, or a single one for all"
        )
    return list(transforms)


Transform = Callable[[Any], Tensor]
"""Maps an RGB image of PIL to a float tensor [C, H, W]."""
