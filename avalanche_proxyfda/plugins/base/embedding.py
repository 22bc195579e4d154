"""The base of methods that compare the embeddings of a batch, one vector a sample."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any, cast, get_args

from torch import Tensor, nn
from typing_extensions import Unpack

from avalanche_proxyfda._checks import check_choice
from avalanche_proxyfda._protocols import AccumulatingStrategy, Strategy
from avalanche_proxyfda._tensors import full_precision, kept
from avalanche_proxyfda.distributed.ranks import active
from avalanche_proxyfda.features.pooling import Pooling, pool_features
from avalanche_proxyfda.features.source import FeatureSource
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.features import FeatureOptions, FeaturePlugin, check_rows
from avalanche_proxyfda.plugins.base.gathered import GatheredTerms, GraphFrom
from avalanche_proxyfda.plugins.base.lifecycle import ReferencePlugin, Terms
from avalanche_proxyfda.teacher.teacher import Values


class EmbeddingOptions(FeatureOptions, total=False):
    """Keyword arguments of every plugin on the embedding; see :class:`EmbeddingPlugin`."""

    pooling: Pooling
    graph_from: GraphFrom


class EmbeddingPlugin(FeaturePlugin):
    """Compares the embeddings of a batch, one vector a sample.

    Args:
        pooling: how tokens or a map become one vector a sample; ``"auto"`` averages.
        graph_from: the samples that are compared with each other if a strategy accumulates
            micro-batches. ``"micro-batch"`` takes those of a micro-batch. ``"accumulated"``
            takes those of an optimizer step, and costs one more forward of the student,
            without gradient, for each micro-batch.
        options: see :class:`FeaturePlugin`.
    """

    least_samples = 2
    reads_whole_batch = True

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        pooling: Pooling = "auto",
        graph_from: GraphFrom = "micro-batch",
        **options: Unpack[FeatureOptions],
    ) -> None:
        super().__init__(weight, **options)
        check_choice("pooling", pooling, get_args(Pooling))
        check_choice("graph_from", graph_from, get_args(GraphFrom))
        if graph_from == "accumulated" and self.reference_data is not None:
            raise ValueError(
                "graph_from='accumulated' joins the training images of a step, and reference_data "
                "gives each micro-batch a reference batch: take graph_from='micro-batch'"
            )
        self.pooling: Pooling = pooling
        self.graph_from: GraphFrom = graph_from
        self._gathered = GatheredTerms()

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor) -> Terms:
        """Return the named terms of a batch.

        Args:
            student: [B, D], B >= 2, with its graph.
            teacher: [B, D'].
        """

    @property
    def source(self) -> FeatureSource | None:
        """The place of the embedding; None before the first experience."""
        return self.sources[0] if self.sources else None

    def places(self, model: nn.Module) -> tuple[FeatureSource, ...]:
        """Return the place of the embedding."""
        return (self.embedding(model),)

    def pooled(self, values: Values) -> Tensor:
        """Return the embeddings of this process's samples, [B, D]."""
        (source,) = self.sources
        return pool_features(values[source], str(source), self.pooling)

    def read(self, values: Values) -> Tensor:
        """Return the embeddings of the whole batch, gathered over ranks, [B, D]."""
        rows = self.pooled(values)
        return rows if self._shard is None else self._shard.join(full_precision(rows))

    def check_student(self, values: Values, batch: int) -> None:
        """Raise ValueError unless the embedding has a row for each sample."""
        check_rows(len(self.pooled(values)), batch, str(self.source))

    # ---- terms of an optimizer step ---------------------------------------------------

    def before_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Refuse ``graph_from="accumulated"`` on several ranks or without accumulation."""
        super().before_training(strategy, **kwargs)
        if self.graph_from == "accumulated" and active():
            raise ValueError(
                "graph_from='accumulated' is of one process: several ranks share a batch already, "
                "and the graph is of all of it; take graph_from='micro-batch'"
            )
        if self.graph_from == "accumulated" and not hasattr(strategy, "accumulate"):
            raise ValueError(
                "graph_from='accumulated' needs a strategy that accumulates: EfficientNaive, or "
                f"class Efficient(EfficientTraining, {type(strategy).__name__})"
            )

    def learned(self) -> list[nn.Parameter]:
        """Return the method's own parameters that its terms reach; the base has none."""
        return []

    def start_look_ahead(self) -> None:
        """Arm the tap for a forward without gradient of a micro-batch of the step."""
        assert self._tap is not None
        self._tap.arm(without_gradient=True)

    def keep_look_ahead(self, strategy: Strategy) -> None:
        """Gather the embeddings of the micro-batch after its forward without gradient."""
        assert self._tap is not None
        student = self._tap.take()
        self.check_student(student, len(strategy.mb_x))
        rows = kept(self.pooled(student))  # before the teacher's forward
        self._gathered.add(rows, kept(self.pooled(self.ask(strategy))))

    def join(self) -> None:
        """Compute the terms of all micro-batches together, and their gradients."""
        self._gathered.solve(partial(self.measured, self.compare), self.learned)

    def before_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Add the terms of the micro-batch, or its part of the terms of the whole step."""
        if not self._gathered.ready:
            super().before_backward(strategy, **kwargs)
            return
        ReferencePlugin.before_backward(self, strategy, **kwargs)  # FeaturePlugin's adds terms
        student, self._student = self._student, None
        assert student is not None
        rows = self.pooled(student)
        share = cast("AccumulatingStrategy", strategy).share
        terms = self._gathered.take(rows, self.learned(), share)
        self.add(strategy, self.weighed(strategy, terms))

    def stop(self) -> None:
        """End an experience; forget the gathered micro-batches."""
        super().stop()
        self._gathered = GatheredTerms()
