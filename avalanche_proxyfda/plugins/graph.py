"""What FDA and Proxy-FDA share: K, hard-class batches, a loss that learns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from avalanche_proxyfda.losses.base import ChunkSize, NegativeWeight, check_amount, check_count
from avalanche_proxyfda.losses.fda import FDALoss
from avalanche_proxyfda.plugins.base import TeacherChoice
from avalanche_proxyfda.plugins.batches import HardClassBatches
from avalanche_proxyfda.plugins.embedding import EmbeddingOptions, EmbeddingPlugin
from avalanche_proxyfda.plugins.reference import Terms


class GraphOptions(EmbeddingOptions, total=False):
    """Keyword arguments of the plugins on the neighbour graph; see :class:`GraphPlugin`."""

    negative_weight: NegativeWeight
    init_logit_scale: float
    init_logit_bias: float
    learnable: bool
    chunk_size: ChunkSize
    classes_per_batch: int
    samples_per_class: int | None
    learning_rate: float
    seed: int


class GraphPlugin(EmbeddingPlugin):
    """Transfers the teacher's neighbour graph of each batch.

    Args:
        feature_module, weight, teacher: see :class:`EmbeddingPlugin`.
        num_neighbors: K, below the batch size.
        hard_class_batches: whether to train on class-balanced batches of related classes.
        negative_weight, init_logit_scale, init_logit_bias, learnable, chunk_size: see
            :class:`~avalanche_proxyfda.losses.base.GraphLoss`.
        classes_per_batch: m of the batches.
        samples_per_class: n of the batches; None fills the strategy's ``train_mb_size``.
        learning_rate: AdamW's, for the loss's own parameters (no weight decay).
        seed: names the plugin's random streams; the global ones are left alone.
        options: see :class:`EmbeddingPlugin` too.
    """

    def __init__(
        self,
        feature_module: str | None = None,
        weight: float = 1.0,
        num_neighbors: int = 16,
        teacher: TeacherChoice = "previous",
        hard_class_batches: bool = True,
        *,
        negative_weight: NegativeWeight = "similarity",
        init_logit_scale: float = 10.0,
        init_logit_bias: float = -10.0,
        learnable: bool = True,
        chunk_size: ChunkSize = "auto",
        classes_per_batch: int = 16,
        samples_per_class: int | None = None,
        learning_rate: float = 1e-3,
        seed: int = 0,
        **options: Unpack[EmbeddingOptions],
    ) -> None:
        super().__init__(feature_module, weight, teacher, **options)
        self.learning_rate = check_amount("learning_rate", learning_rate)
        self.seed = check_count("seed", seed, 0)
        check_count("classes_per_batch", classes_per_batch, 2)
        if samples_per_class is not None:
            check_count("samples_per_class", samples_per_class, 1)
        self._batches = (
            HardClassBatches(classes_per_batch, samples_per_class, seed)
            if hard_class_batches
            else None
        )
        self.graph: dict[str, Any] = {
            "num_neighbors": num_neighbors,
            "negative_weight": negative_weight,
            "init_logit_scale": init_logit_scale,
            "init_logit_bias": init_logit_bias,
            "learnable": learnable,
            "chunk_size": chunk_size,
        }
        FDALoss(**self.graph)  # refuses bad options now, not at the first batch
        self.loss: nn.Module | None = None
        self.optimizer: torch.optim.Optimizer | None = None

    # ---- what a method says -----------------------------------------------------------

    @abstractmethod
    def build_loss(self, dim: int, batch: int) -> nn.Module:
        """The loss for features [B, ``dim``] and batches of about ``batch`` samples."""

    @abstractmethod
    def loss_terms(self, loss: Any, student: Tensor, teacher: Tensor) -> Terms:
        """Named terms of a batch: student [B, D], teacher [B, D], B >= 2."""

    def loss_shape(self) -> tuple[int, int]:
        """(dim, batch) that :meth:`build_loss` needs to make the present loss again."""
        return (1, 2)

    # ---- an experience ----------------------------------------------------------------

    def prepare(
        self, strategy: Any, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Put the batches in place; check K against their size."""
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
            size *= strategy.accumulate
        if self.graph["num_neighbors"] >= size:
            raise ValueError(
                f"num_neighbors={self.graph['num_neighbors']} must be below the training batch, "
                f"which holds {size} samples: lower num_neighbors or raise train_mb_size"
            )
        if self.loss is not None:
            self._place(strategy.device)
        if self.optimizer is not None:
            self.optimizer.zero_grad()  # of a step that was broken off

    def _place(self, device: torch.device) -> None:
        """Move the loss to ``device`` and give it an optimizer there, keeping its state."""
        assert self.loss is not None
        self.loss.to(device)
        learned = [p for p in self.loss.parameters() if p.requires_grad]
        state = self.optimizer.state_dict() if self.optimizer else None
        if learned:
            self.optimizer = torch.optim.AdamW(learned, lr=self.learning_rate, weight_decay=0.0)
            if state is not None:
                self.optimizer.load_state_dict(state)
                for group in self.optimizer.param_groups:
                    group["lr"] = self.learning_rate

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Choose the epoch's batches."""
        if self._batches is not None:
            self._batches.start_epoch(strategy)
        super().before_training_epoch(strategy, **kwargs)

    def learned(self) -> list[nn.Parameter]:
        """The loss's parameters."""
        return [p for p in self.loss.parameters() if p.requires_grad] if self.loss else []

    def terms(self, student: Tensor, teacher: Tensor) -> Terms:
        """The loss's terms; the loss is made at the first batch."""
        if self.loss is None:
            self.loss = self.build_loss(student.shape[1], len(student))
            self._place(student.device)
        return self.loss_terms(self.loss, student, teacher)

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Step the loss's own parameters."""
        if self.optimizer is not None:
            self.optimizer.step()
            # here, not with each batch: batches may be accumulated, or skipped
            self.optimizer.zero_grad()

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Forget the batch, and count it."""
        super().after_training_iteration(strategy, **kwargs)
        if self._batches is not None:
            self._batches.count_step()

    def stop(self) -> None:
        """Let go of the batches too."""
        super().stop()
        if self._batches is not None:
            self._batches.remove()

    # ---- what is saved ----------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The loss, its optimizer, and the place in the batches."""
        batches = self._batches.state_dict() if self._batches else None
        return {
            **super().state_dict(),
            "shape": self.loss_shape() if self.loss else None,
            "loss": self.loss.state_dict() if self.loss else None,
            "optimizer": self.optimizer.state_dict() if self.optimizer else None,
            "sampler": batches or self.pending.get("sampler"),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        super().load_state_dict(state)
        self.loss = self.optimizer = None
        if state["shape"] is not None:
            self.loss = self.build_loss(*state["shape"])
            self.loss.load_state_dict(state["loss"])
            self._place(torch.device("cpu"))
            if state["optimizer"] is not None and self.optimizer is not None:
                self.optimizer.load_state_dict(state["optimizer"])
