"""The base of FDA and Proxy-FDA: neighbours, hard-class batches, a loss that learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from torch import nn
from typing_extensions import Unpack

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._protocols import AccumulatingStrategy, Strategy
from avalanche_proxyfda.data.hard_class import HardClassBatches
from avalanche_proxyfda.losses.chunks import ChunkSize
from avalanche_proxyfda.losses.fda import FDALoss
from avalanche_proxyfda.losses.graph import NegativeWeight
from avalanche_proxyfda.plugins.base.learned import LearnedLossOptions, LearnedLossPlugin

L = TypeVar("L", bound=nn.Module)


class GraphOptions(LearnedLossOptions, total=False):
    """Keyword arguments of the plugins on the neighbour graph; see :class:`GraphPlugin`."""

    num_neighbors: int
    hard_class_batches: bool
    negative_weight: NegativeWeight
    init_logit_scale: float
    init_logit_bias: float
    learnable: bool
    chunk_size: ChunkSize
    classes_per_batch: int
    samples_per_class: int | None
    seed: int


class GraphPlugin(LearnedLossPlugin[L]):
    """Transfers the teacher's neighbour graph of each batch.

    A method implements :meth:`build_loss`, and :meth:`compare` with :meth:`loss_for`.

    Args:
        weight: lambda, the coefficient of the alignment.
        num_neighbors: K, below the batch size.
        hard_class_batches: True trains on class-balanced batches of related classes.
        negative_weight, init_logit_scale, init_logit_bias, learnable, chunk_size: see
            :class:`~avalanche_proxyfda.losses.graph.GraphLoss`.
        classes_per_batch: m, classes in a hard-class batch.
        samples_per_class: n, samples of each of them; None fills the strategy's
            ``train_mb_size``.
        seed: seed of the plugin's random streams; global streams are not used.
        options: see :class:`LearnedLossPlugin`.
    """

    def __init__(
        self,
        weight: float = 1.0,
        *,
        num_neighbors: int = 16,
        hard_class_batches: bool = True,
        negative_weight: NegativeWeight = "similarity",
        init_logit_scale: float = 10.0,
        init_logit_bias: float = -10.0,
        learnable: bool = True,
        chunk_size: ChunkSize = "auto",
        classes_per_batch: int = 16,
        samples_per_class: int | None = None,
        seed: int = 0,
        **options: Unpack[LearnedLossOptions],
    ) -> None:
        super().__init__(weight, **options)
        self.seed = check_count("seed", seed, 0)
        check_count("classes_per_batch", classes_per_batch, 2)
        if samples_per_class is not None:
            check_count("samples_per_class", samples_per_class, 1)
        self._batches = (
            HardClassBatches(classes_per_batch, samples_per_class, seed)
            if hard_class_batches
            else None
        )
        self.loss_options: dict[str, Any] = {
            "num_neighbors": num_neighbors,
            "negative_weight": negative_weight,
            "init_logit_scale": init_logit_scale,
            "init_logit_bias": init_logit_bias,
            "learnable": learnable,
            "chunk_size": chunk_size,
        }
        FDALoss(**self.loss_options)  # refuses bad options now, not at the first batch

    # ---- an experience ----------------------------------------------------------------

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Install the hard-class batches; check K against the size of a batch."""
        size = strategy.train_mb_size
        if self._batches is not None:
            labels = getattr(strategy.experience, "task_labels", None) or [0]
            ask = self.ask_teacher(labels[0])
            self._batches.install(strategy, lambda images: self.pooled(ask(images)), loading)
            assert self.reference is not None
            self.reference.forget()
            if state.get("sampler") is not None:
                self._batches.resume(state["sampler"])
            size = self._batches.sampler.batch_size if self._batches.sampler else size
        if self.graph_from == "accumulated":
            size *= cast("AccumulatingStrategy", strategy).accumulate
        num_neighbors = self.loss_options["num_neighbors"]
        if num_neighbors >= size:
            raise ValueError(
                f"num_neighbors={num_neighbors} must be below the training batch, "
                f"which holds {size} samples: lower num_neighbors or raise train_mb_size"
            )
        super().prepare(strategy, state, new, loading)

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Set the epoch of the hard-class batches."""
        if self._batches is not None:
            self._batches.start_epoch(strategy)
        super().before_training_epoch(strategy, **kwargs)

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Forget the batch, and count it."""
        super().after_training_iteration(strategy, **kwargs)
        if self._batches is not None:
            self._batches.count_step()

    def stop(self) -> None:
        """End an experience; release the batches."""
        super().stop()
        if self._batches is not None:
            self._batches.remove()

    # ---- saved state ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base and of the sampler."""
        batches = self._batches.state_dict() if self._batches else None
        return {**super().state_dict(), "sampler": batches or self.pending.get("sampler")}
