"""SoftFDA as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda._checks import check_count, check_flag
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda._random import generator
from avalanche_proxyfda._tensors import full_precision
from avalanche_proxyfda.data.hard_class import Mining
from avalanche_proxyfda.features.memory import FeatureMemory
from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.losses.chunks import ChunkSize
from avalanche_proxyfda.losses.graph import NegativeWeight
from avalanche_proxyfda.losses.proxies import proxy_count
from avalanche_proxyfda.losses.soft_fda import SoftFDALoss
from avalanche_proxyfda.losses.soft_proxy_fda import SoftProxyFDALoss
from avalanche_proxyfda.losses.soft_rows import Divergence
from avalanche_proxyfda.losses.texts import check_texts
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.graph import GraphPlugin, Start
from avalanche_proxyfda.plugins.base.head_texts import head_texts
from avalanche_proxyfda.plugins.base.learned import LearnedLossOptions
from avalanche_proxyfda.plugins.base.lifecycle import Terms

_RATIO = 0.4  # proxies for each member of a set, as in the paper


class SoftFDAOptions(LearnedLossOptions, total=False):
    """Keyword arguments that SoftFDA shares with FDA; see :class:`GraphPlugin`."""

    num_neighbors: int | None
    neighbor_factor: int
    hard_class_batches: bool | None
    mining: Mining | None
    candidates: int | None
    start: Start | None
    negative_weight: NegativeWeight
    init_logit_scale: float
    init_logit_bias: float
    chunk_size: ChunkSize
    classes_per_batch: int
    samples_per_class: int | None
    seed: int


class SoftFDAPlugin(GraphPlugin[SoftFDALoss | SoftProxyFDALoss], supports_distributed=True):
    """Soft feature distribution alignment (ours; the ancestors are PKT and FDA).

    ``Naive(model, optimizer, criterion, train_mb_size=64, plugins=[SoftFDAPlugin()])``. Metrics:
    ``SoftFDA_alignment``, and ``SoftFDA_generator`` with proxies. The batches are those of FDA.
    K, the start, and scale and bias of the sigmoid are for ``divergence="bregman"``, for proxies
    and for mining; the sigmoid is never learnt.

    Args:
        weight: lambda, the coefficient of the alignment; ``"auto"`` sets it while it trains, with
            a tolerance of 1 by default.
        scale: s > 0, factor of the cosines in the softmax; None takes 10. The Bregman form has
            none.
        divergence: ``"kl"`` compares softmax distributions over the other samples.
            ``"bregman"`` takes FDA's sigmoid loss minus its first-order expansion at the teacher.
        proxies: True adds the paper's proxies as columns: pooled from the student's features for
            the student, and from the teacher's for the teacher.
        max_proxies: upper limit of the proxies of a set, with ``proxies=True``; None takes the
            number that a full batch of the first experience needs.
        memory: number of earlier samples whose teacher features are further columns, for student
            and teacher alike; 0 takes none. The memory begins anew with each teacher.
        texts: further columns in the space of the features: ``"head"``, the class texts of the
            model's zero-shot heads as an experience begins; text features, float [M, D]; or None.
        options: see :class:`~avalanche_proxyfda.plugins.base.graph.GraphPlugin`.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import SoftFDAPlugin
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugin = SoftFDAPlugin(weight=0.5, memory=128, hard_class_batches=False)
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> plugin.compare(torch.eye(3), torch.eye(3))  # student and teacher agree
        {'alignment': (0.5, tensor(0.))}
    """

    usual_delta = 1.0
    usual_share = 0.25

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        scale: float | None = None,
        divergence: Divergence = "kl",
        proxies: bool = False,
        max_proxies: int | None = None,
        memory: int = 0,
        texts: Literal["head"] | Tensor | None = None,
        **options: Unpack[SoftFDAOptions],
    ) -> None:
        super().__init__(weight, learnable=False, **options)
        self.scale, self.divergence = scale, divergence
        self.proxies = check_flag("proxies", proxies)
        if max_proxies is not None and not proxies:
            raise ValueError(
                f"max_proxies={max_proxies} has no effect without proxies: give proxies=True, or "
                "leave max_proxies out"
            )
        self.max_proxies = (
            None if max_proxies is None else check_count("max_proxies", max_proxies, 1)
        )
        self.memory = FeatureMemory(memory)
        if memory and self.choice == "averaged":
            raise ValueError(
                f"memory={memory} holds features of one teacher, and teacher='averaged' changes "
                "after each step: take memory=0, or teacher='previous'"
            )
        _check_kind(texts)
        self.texts = texts
        self._columns_of_texts: Tensor | None = None  # [M, D], on the strategy's device
        self._shape = (1, 2)
        self.build_loss(1, 2)  # refuses bad options early

    # ---- the loss ---------------------------------------------------------------------

    def uses_sigmoid(self) -> bool:
        """Return True if the loss or the mining reads the sigmoid's scale and bias."""
        mines = self._batches is not None and self._batches.mining in ("bank", "online")
        return self.divergence == "bregman" or self.proxies or mines

    def build_loss(self, dim: int, batch: int) -> SoftFDALoss | SoftProxyFDALoss:
        """Return SoftFDA's loss; with proxies, a generator for features of width ``dim``."""
        self._shape = (dim, batch)
        options = {name: v for name, v in self.loss_options.items() if name != "learnable"}
        options |= {"scale": self.scale, "divergence": self.divergence}
        if not self.proxies:
            return SoftFDALoss(**options)
        most = self.max_proxies or max(1, proxy_count(batch - 1, _RATIO, batch))
        source = generator("proxies", self.seed)
        return SoftProxyFDALoss(
            dim, **options, proxy_ratio=_RATIO, max_proxies=most, generator=source
        )

    def loss_shape(self) -> tuple[int, int]:
        """Return the width of the features and the size of the batch that the loss is for."""
        return self._shape

    def width(self) -> int | None:
        """Return the width of the features that the generator takes; None without proxies."""
        return self._shape[0] if self.proxies else None

    def compare(self, student: Tensor, teacher: Tensor) -> Terms:
        """Return the terms ``alignment`` and, with proxies, ``generator``; inputs are [B, D]."""
        made = self.graph_loss(student, teacher)(student, teacher, self._columns(student))
        if isinstance(made, Tensor):
            return {"alignment": (self.weight, made)}
        return {"alignment": (self.weight, made.alignment), "generator": (1.0, made.generator)}

    def remember(self, teacher: Tensor) -> None:
        """Add the teacher's features of a training batch, [B, D], to the memory."""
        self.memory.add(teacher)

    def _columns(self, student: Tensor) -> Tensor | None:
        """Return the columns beyond the batch, [M, D]; None if there are none."""
        if self._columns_of_texts is not None:
            check_texts("texts", self._columns_of_texts, student.shape[1])
        parts = [rows for rows in (self.memory.rows, self._columns_of_texts) if rows is not None]
        return torch.cat([full_precision(rows) for rows in parts]) if parts else None

    # ---- an experience ----------------------------------------------------------------

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Begin the memory anew for a new teacher; read the texts of the heads."""
        super().prepare(strategy, state, new, loading)
        if new:
            self._columns_of_texts = None
            if self.choice != "initial":
                self.memory.clear()
        if self.memory.rows is not None:
            self.memory.rows = self.memory.rows.to(strategy.device)
        if self.texts is None:
            self._columns_of_texts = None  # of a loaded state
            return
        texts = self._columns_of_texts
        if isinstance(self.texts, Tensor):
            texts = self.texts
        elif texts is None:
            texts = head_texts(unwrap(strategy.model))
        if texts is None:
            raise ValueError(
                f"texts='head' needs a zero-shot head, and {type(unwrap(strategy.model)).__name__} "
                "has none (TextHead, SeenTextHead or TrainedTextHead): give text features, float "
                "[M, D], or leave texts out"
            )
        self._columns_of_texts = texts.detach().to(strategy.device)

    # ---- saved state ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base, the memory, and the texts of the heads."""
        texts = self._columns_of_texts if isinstance(self.texts, str) else None
        return {**super().state_dict(), "memory": self.memory.rows, "texts": texts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``, see :meth:`ReferencePlugin.load_state_dict`.

        Raises:
            ValueError: if the state's memory is larger than this plugin's.
        """
        rows = state["memory"]
        if rows is not None and len(rows) > self.memory.size:
            raise ValueError(
                f"the loaded state of {self.name} has a memory of {len(rows)} samples, and this "
                f"plugin has memory={self.memory.size}: give it the same memory"
            )
        super().load_state_dict(state)
        self.memory.rows, self._columns_of_texts = rows, state["texts"]


def _check_kind(texts: object) -> None:
    """Raise unless ``texts`` is None, ``"head"`` or a float matrix."""
    if isinstance(texts, Tensor):
        check_texts("texts", texts, texts.shape[-1] if texts.ndim else 0)
    elif texts not in (None, "head"):
        raise ValueError(f"texts={texts!r} must be 'head', text features [M, D], or None")
