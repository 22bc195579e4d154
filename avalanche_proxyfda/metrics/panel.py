"""A panel: data sets that are never tuned on, and a model's features of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, get_args

import torch
from avalanche.models.utils import avalanche_forward
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from avalanche_proxyfda._checks import check_choice, check_count
from avalanche_proxyfda._float64 import CPU, float64_device
from avalanche_proxyfda._labelled import check_pair, check_same_width
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda._random import preserved_rng
from avalanche_proxyfda.features.linear_probe import held_out
from avalanche_proxyfda.features.passes import BatchesInTurn, on_host, sent
from avalanche_proxyfda.features.pooling import Pooling, pool_features
from avalanche_proxyfda.features.presets import find_feature_source
from avalanche_proxyfda.features.source import FeatureSource, unwrap
from avalanche_proxyfda.strategies.precision import DTYPES, Precision
from avalanche_proxyfda.teacher.teacher import FeatureTeacher

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Rows = tuple[Tensor, Tensor]
"""Features [N, D], float32 on the CPU, and labels [N]."""


@dataclass(frozen=True, eq=False)
class PanelSet:
    """A data set to be measured.

    Attributes:
        name: name of the data set; it is part of the metrics' names.
        train: images and labels from 0, with the evaluation transform.
        test: as ``train``.
        validation: as ``train``; None holds out a fifth of ``train`` to choose settings.
        collate_fn: function that the loader collates with; None takes torch's.

    Raises:
        ValueError: when the name is empty, holds ``/`` or is ``mean``, or a split is empty.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from avalanche_proxyfda.metrics import PanelSet
        >>> images, labels = torch.zeros(6, 3, 8, 8), torch.tensor([0, 1, 0, 1, 0, 1])
        >>> train, test = TensorDataset(images, labels), TensorDataset(images[:2], labels[:2])
        >>> pets = PanelSet("pets", train, test)
        >>> len(pets.train), len(pets.test), pets.validation
        (6, 2, None)
    """

    name: str
    train: Dataset[Any]
    test: Dataset[Any]
    validation: Dataset[Any] | None = None
    collate_fn: Callable[[list[Any]], Any] | None = None

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name == "mean":
            raise ValueError(
                f"name={self.name!r} of a panel set must be a word without '/', and not 'mean'"
            )
        for split in SPLITS:
            data: Any = getattr(self, split)
            if data is not None and len(data) == 0:
                raise ValueError(f"{self.name}: its {split} split is empty")


@dataclass(frozen=True, eq=False)
class PanelFeatures:
    """One model's features of one set.

    Attributes:
        name: name of the set.
        splits: features [N, D] and integer labels [N] by split; ``validation`` may be absent.
        device: device that measures the features; it holds one set at a time.

    Raises:
        TypeError, ValueError: when a split has another name than those of :class:`PanelSet`, is
            no pair of features and labels of the same N >= 1, or has features of another width
            than the other splits.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.metrics import PanelFeatures
        >>> rows = torch.ones(10, 4), torch.tensor([0, 1] * 5)
        >>> features = PanelFeatures("pets", {"train": rows, "test": rows})
        >>> features.classes, list(features.evaluation)
        (2, ['test'])
        >>> train, validation = features.choosing()  # a fifth of each class is held out
        >>> train[0].shape, validation[0].shape
        (torch.Size([8, 4]), torch.Size([2, 4]))
    """

    name: str
    splits: Mapping[Split, Rows]
    device: torch.device = CPU

    def __post_init__(self) -> None:
        checked: list[tuple[str, Tensor]] = []
        for split, pair in self.splits.items():
            name = f"{self.name}: splits[{split!r}]"
            if split not in SPLITS:
                raise ValueError(f"{name} is unknown; choose one of {SPLITS}")
            checked.append((f"{name}[0]", check_pair(name, pair)[0]))
            check_same_width(*checked[-1], checked[0][0], checked[0][1].shape[1])

    def rows(self, split: Split) -> Rows:
        """Features [N, D] and labels [N] of a split.

        Raises:
            ValueError: when the set has no such split.
        """
        if split not in self.splits:
            raise ValueError(
                f"{self.name} has the splits {tuple(self.splits)} and no {split!r}: give "
                f"splits[{split!r}]"
            )
        return self.splits[split]

    def placed(self) -> PanelFeatures:
        """Copy of the features on :attr:`device`, or the features themselves on the CPU.

        A device without float64 leaves the features on the CPU, which then measures them.
        """
        place = float64_device(self.device)
        if place.type == "cpu":
            return self
        splits = {split: (x.to(place), y.to(place)) for split, (x, y) in self.splits.items()}
        return PanelFeatures(self.name, splits, self.device)

    @property
    def classes(self) -> int:
        """Number of classes, the largest training label + 1; ValueError without training rows."""
        return int(self.rows("train")[1].max()) + 1

    @property
    def evaluation(self) -> dict[Split, Rows]:
        """The splits that accuracies are measured on: all except ``train``."""
        return {split: rows for split, rows in self.splits.items() if split != "train"}

    def choosing(self) -> tuple[Rows, Rows]:
        """Training and validation rows for choosing settings.

        Raises:
            ValueError: when there is no training split, or no validation split and no training
                image to hold out.
        """
        train = self.rows("train")
        if "validation" in self.splits:
            return train, self.splits["validation"]
        held = held_out(train[1])
        if not bool(held.any()):
            raise ValueError(
                f"{self.name} has one training image a class and no validation split: none is left "
                "to choose settings by"
            )
        return (train[0][~held], train[1][~held]), (train[0][held], train[1][held])


class Panel:
    """Data sets, and where in a model their features are read.

    All metrics of one panel share its features: each moment computes them once.

    Args:
        sets: data sets with different names.
        feature_module: see :class:`~avalanche_proxyfda.FDAPlugin`. None asks
            :func:`~avalanche_proxyfda.find_feature_source` for the place when the features are
            computed, which fails for a model that no preset knows.
        pooling: see :func:`~avalanche_proxyfda.features.pooling.pool_features`.
        batch_size: images a forward pass.
        num_workers: worker processes of the loader that reads all sets.

    Attributes:
        passes: number of times that the features of a data set were computed.

    Raises:
        TypeError, ValueError: when there is no set, a name repeats, or an option is out of range.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from torch.utils.data import TensorDataset
        >>> from avalanche_proxyfda.metrics import Panel, PanelSet
        >>> data = TensorDataset(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))
        >>> panel = Panel([PanelSet("pets", train=data, test=data)], feature_module="1")
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.Linear(5, 2))
        >>> features, labels = panel.of(model, torch.device("cpu"))["pets"].splits["test"]
        >>> features.shape, labels.tolist()
        (torch.Size([4, 5]), [0, 1, 0, 1])
    """

    def __init__(
        self,
        sets: Sequence[PanelSet],
        feature_module: str | None = None,
        pooling: Pooling = "auto",
        batch_size: int = 128,
        num_workers: int = 0,
    ) -> None:
        names = [data.name for data in sets]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"sets={names} must be at least one, with different names")
        self.sets = tuple(sets)
        check_choice("pooling", pooling, get_args(Pooling))
        self.pooling: Pooling = pooling
        self.batch_size = check_count("batch_size", batch_size, 1)
        self.num_workers = check_count("num_workers", num_workers, 0)
        self._named = None if feature_module is None else FeatureSource.parse(feature_module)
        self._moment: tuple[int, ...] | None = None
        self._features: dict[str, PanelFeatures] = {}
        self.passes = 0

    def at(self, strategy: Strategy) -> dict[str, PanelFeatures]:
        """Features of the strategy's present model, by set.

        The features are computed once a moment for all metrics. A moment lasts from one
        training step of a strategy to the next.

        Raises:
            ValueError: as :meth:`of`.
        """
        clock = strategy.clock
        state = [t for t in strategy.model.state_dict().values() if isinstance(t, Tensor)]
        # tensor versions detect weights that change without a training step
        versions = [part for t in state for part in (t.data_ptr(), t._version)]
        moment = (id(strategy), clock.train_exp_counter, clock.train_iterations, *versions)
        if moment != self._moment:
            precision: Precision = getattr(strategy, "precision", "float32")
            self._features = self.of(strategy.model, strategy.device, precision)
            self._moment = moment
        return self._features

    def of(
        self, model: nn.Module, device: torch.device, precision: Precision = "float32"
    ) -> dict[str, PanelFeatures]:
        """Features of ``model``, by set.

        A frozen copy of the model computes the features, in eval mode: modes, heads and random
        streams stay as they are. The copy has no forward hooks, so their effect is not measured.

        Args:
            model: the model to copy.
            device: device of the forwards.
            precision: autocast of the forwards, such as that of training; features are float32.

        Raises:
            ValueError: when no preset knows the model and ``feature_module`` is None, the model
                lacks the module that ``feature_module`` names or does not run it, the features
                are no vectors that ``pooling`` can make, or a set has one class only, a negative
                label, or a validation or test class without a training image.
        """
        source = self._named or find_feature_source(unwrap(model))
        teacher = FeatureTeacher(model, [source], as_in_training=False)

        def forward(module: nn.Module, images: Tensor) -> Any:
            tasks = torch.zeros(len(images), dtype=torch.long, device=images.device)
            return avalanche_forward(module, images, tasks)

        def features_of(images: Tensor) -> Tensor:
            value = teacher.values(images, DTYPES.get(precision), forward)[source]
            return pool_features(value, str(source), self.pooling)

        splits = self._rows(features_of, device)
        for name, of_set in splits.items():
            _check_labels(name, {split: labels for split, (_, labels) in of_set.items()})
        return {name: PanelFeatures(name, of_set, device) for name, of_set in splits.items()}

    def _rows(
        self, features_of: Callable[[Tensor], Tensor], device: torch.device
    ) -> dict[str, dict[Split, Rows]]:
        """Features and labels by set and split; one loader reads them all."""
        parts = [
            (data, split)
            for data in self.sets
            for split in SPLITS
            if getattr(data, split) is not None
        ]
        batches = BatchesInTurn(
            [(getattr(data, split), data.collate_fn) for data, split in parts], self.batch_size
        )
        loader = batches.loader(device, "panel", self.num_workers)
        rows: dict[str, dict[Split, Rows]] = {data.name: {} for data in self.sets}
        with preserved_rng(device), torch.no_grad(), tqdm(loader, delay=5, leave=False) as bar:
            read = zip(bar, batches.places, strict=True)
            for number, of_part in groupby(read, key=lambda pair: pair[1][0]):
                data, split = parts[number]
                bar.set_description(f"panel: {data.name}", refresh=False)
                labels: list[Tensor] = []
                own = (batch for batch, _ in of_part)
                features = on_host(_features(own, features_of, device, labels))
                rows[data.name][split] = features, torch.cat(labels).cpu()
        self.passes += len(self.sets)
        return rows

    def forget(self) -> None:
        """Drop the features of the last moment."""
        self._moment, self._features = None, {}

    def __getstate__(self) -> dict[str, Any]:
        """State for pickling, without the features of the last moment."""
        return {**self.__dict__, "_moment": None, "_features": {}}


def _features(
    batches: Iterable[Any],
    features_of: Callable[[Tensor], Tensor],
    device: torch.device,
    labels: list[Tensor],
) -> Iterator[Tensor]:
    """Yield the features of each batch, float32 on ``device``; append its labels to ``labels``."""
    for batch in batches:
        labels.append(torch.as_tensor(batch[1]).long())
        yield features_of(sent(batch[0], device)).float()


def _check_labels(name: str, labels: Mapping[Split, Tensor]) -> None:
    known = set(labels["train"].tolist())
    if len(known) < 2:
        raise ValueError(f"{name}: its training split has one class; a panel set needs two")
    if min(known) < 0:
        raise ValueError(f"{name}: labels must be from 0, but {min(known)} was found")
    for split, values in labels.items():
        strange = sorted(set(values.tolist()) - known)
        if strange:
            raise ValueError(
                f"{name}: no training image of the classes {strange[:5]}, which {split} has"
            )
