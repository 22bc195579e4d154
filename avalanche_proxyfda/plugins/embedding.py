"""Methods that compare the embeddings of a batch, one vector a sample."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, get_args

from torch import Tensor, nn
from typing_extensions import Unpack

from avalanche_proxyfda.distributed.ranks import active
from avalanche_proxyfda.feature_source import FeatureSource
from avalanche_proxyfda.features import Pooling, pool_features
from avalanche_proxyfda.losses.neighbors import full_precision
from avalanche_proxyfda.plugins.base import (
    FeatureOptions,
    FeaturePlugin,
    TeacherChoice,
    check_rows,
)
from avalanche_proxyfda.plugins.gathered import GatheredTerms, GraphFrom
from avalanche_proxyfda.plugins.reference import Terms, check_choice
from avalanche_proxyfda.teacher import Values


class EmbeddingOptions(FeatureOptions, total=False):
    """Keyword arguments of every plugin on the embedding; see :class:`EmbeddingPlugin`."""

    pooling: Pooling
    graph_from: GraphFrom


class EmbeddingPlugin(FeaturePlugin):
    """Compares the embeddings of a batch, one vector a sample.

    Args:
        feature_module, weight, teacher: see :class:`FeaturePlugin`.
        pooling: how tokens or a map become one vector a sample; ``"auto"`` averages.
        graph_from: which samples are compared with each other where a strategy accumulates
            micro-batches: those of a ``"micro-batch"``, or all ``"accumulated"`` ones of an
            optimizer step, at one more forward of the student, without gradient, for each.
        options: see :class:`FeaturePlugin` too.
    """

    least_samples = 2

    def __init__(
        self,
        feature_module: str | None = None,
        weight: float = 1.0,
        teacher: TeacherChoice = "previous",
        pooling: Pooling = "auto",
        graph_from: GraphFrom = "micro-batch",
        **options: Unpack[FeatureOptions],
    ) -> None:
        super().__init__(feature_module, weight, teacher, **options)
        check_choice("pooling", pooling, get_args(Pooling))
        check_choice("graph_from", graph_from, get_args(GraphFrom))
        self.pooling: Pooling = pooling
        self.graph_from: GraphFrom = graph_from
        self._gathered = GatheredTerms()

    @abstractmethod
    def terms(self, student: Tensor, teacher: Tensor) -> Terms:
        """Named terms of a batch: student [B, D], teacher [B, D], B >= 2."""

    @property
    def source(self) -> FeatureSource | None:
        """Where the embedding is; None before the first experience."""
        return self.sources[0] if self.sources else None

    def places(self, model: nn.Module) -> tuple[FeatureSource, ...]:
        """The embedding."""
        return (self.embedding(model),)

    def pooled(self, values: Values) -> Tensor:
        """The embedding of a batch, [B, D]."""
        (source,) = self.sources
        return pool_features(values[source], str(source), self.pooling)

    def check_student(self, values: Values, batch: int) -> None:
        """Raise ValueError when the embedding is not of the whole batch."""
        check_rows(len(self.pooled(values)), batch, str(self.source))

    def compare(self, student: Values, teacher: Values) -> Terms:
        """The method's terms of the two embeddings, of the whole batch on every rank."""
        own, other = self.pooled(student), self.pooled(teacher)
        if self._shard is not None:
            own, other = (self._shard.join(full_precision(rows)) for rows in (own, other))
        return self.terms(own, other)

    # ---- the graph of an optimizer step -----------------------------------------------

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse what cannot work, a strategy that does not look ahead included."""
        super().before_training(strategy, **kwargs)
        if self.graph_from == "accumulated" and active():
            raise ValueError(
                "graph_from='accumulated' is of one process: several ranks share a batch already, "
                "and the graph is of all of it"
            )
        if self.graph_from == "accumulated" and not hasattr(strategy, "accumulate"):
            raise ValueError(
                "graph_from='accumulated' needs a strategy that accumulates: EfficientNaive, or "
                f"class Efficient(EfficientTraining, {type(strategy).__name__})"
            )

    def learned(self) -> list[nn.Parameter]:
        """Parameters of the method's own that its terms reach."""
        return []

    def start_look_ahead(self) -> None:
        """Start to read: the next forward, without gradient, is of a micro-batch of the step."""
        assert self._tap is not None
        self._tap.arm(without_gradient=True)

    def keep_look_ahead(self, strategy: Any) -> None:
        """Keep the embeddings of the micro-batch that was looked at."""
        assert self._tap is not None
        student = self._tap.take()
        self.check_student(student, len(strategy.mb_x))
        self._gathered.add(self.pooled(student), self.pooled(self.ask(strategy)))

    def join(self) -> None:
        """Compute the terms of all micro-batches together, and their slopes."""
        self._gathered.solve(self.terms, self.learned)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Add the terms of the micro-batch, or what it has of those of the whole step."""
        if not self._gathered.ready:
            super().before_backward(strategy, **kwargs)
            return
        student, self._student = self._student, None
        assert student is not None
        rows = self.pooled(student)
        self.add(strategy, self._gathered.take(rows, self.learned(), strategy.share))

    def stop(self) -> None:
        """Forget the step too."""
        super().stop()
        self._gathered = GatheredTerms()
