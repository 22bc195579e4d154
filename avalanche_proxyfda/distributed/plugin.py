"""The strategy plugin that spreads training and evaluation over ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from avalanche.training.plugins.strategy_plugin import SupervisedPlugin
from torch import Tensor, distributed, nn

from avalanche_proxyfda._checks import named_kind
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.distributed.loaders import RankSlices, own_rows, unshard
from avalanche_proxyfda.distributed.ranks import (
    Shard,
    active,
    average_batch_norms,
    average_over_ranks,
    check_same,
    leave_shared_streams,
    share_model,
    share_streams,
    sum_gradients,
    sum_over_ranks,
)


class DistributedTraining(SupervisedPlugin[Any], supports_distributed=True):  # type: ignore[call-arg]
    """Spreads an Avalanche strategy over the ranks of a torch.distributed group.

    The plugin must be the first in ``plugins``. The model needs no DistributedDataParallel:
    heads may grow, plugins may run old heads next to the forward, and names, optimizers and
    checkpoints are those of a single process. Outside of a group the plugin does nothing.

    ``train_mb_size`` and ``eval_mb_size`` are sizes of the *whole* batch, so learning rates,
    numbers of neighbours and hard-class batches mean the same for any number of ranks. The
    criterion must be a mean over the batch. In training and evaluation, metrics on every rank
    read outputs and labels of the whole batch (``mb_x`` holds the rank's rows), so they equal
    those of a single process.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import FDAPlugin
        >>> from avalanche_proxyfda.distributed import DistributedTraining
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugins = [DistributedTraining(), FDAPlugin()]
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=plugins, train_mb_size=256)
        >>> strategy.plugins[0] is plugins[0], strategy.train_mb_size  # 64 rows a rank on 4 ranks
        (True, 256)
    """

    def __init__(self) -> None:
        super().__init__()
        self.shard: Shard | None = None
        """This rank's part of the current batch; None between batches."""
        self._step = 0
        self._training_step = 0
        """Kept while an evaluation inside an epoch counts its own batches."""
        self._shared: list[nn.Parameter] = []

    # ---- training ---------------------------------------------------------------------

    def before_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Check the strategy, and copy rank 0's random streams to all ranks.

        Raises:
            TypeError, ValueError: for a strategy that cannot be spread over ranks.
        """
        if active():
            _check(strategy, self)
            share_streams(strategy.device)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Copy rank 0's weights, also of new heads; make the loader draw whole batches."""
        if active():
            labels = np.asarray([int(label) for label in strategy.adapted_dataset.targets])
            check_same("the experience's labels", labels.astype(np.int64).tobytes())
            self._share(strategy)
            unshard(strategy.dataloader)

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Make the loader give this rank's rows."""
        if active():
            if strategy.clock.train_exp_epochs == 0:
                self._share(strategy)  # plugins may have changed a head
            strategy.dataloader = own_rows(strategy.dataloader)
            self._step = 0

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note which part of which batch this is."""
        if active():
            if self._step == 0:
                leave_shared_streams(distributed.get_rank())
            self._begin(strategy)

    def after_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Sum the gradients of the model, and of the plugins' own optimizers, over ranks."""
        if self.shard is not None:
            parameters = dict.fromkeys(strategy.model.parameters())
            for plugin in strategy.plugins:
                optimizer = getattr(plugin, "optimizer", None)
                if isinstance(optimizer, torch.optim.Optimizer):
                    groups = optimizer.param_groups
                    parameters.update(dict.fromkeys(p for g in groups for p in g["params"]))
            sum_gradients(parameters, self.shard.share)

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Give metrics the loss and the outputs of the whole batch."""
        if self.shard is not None:
            strategy.loss = sum_over_ranks(strategy.loss * self.shard.share)
            self._join(strategy)
            self.shard = None

    def after_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Average running statistics over ranks, and synchronise the random streams."""
        if active():
            self.shard = None
            average_batch_norms(strategy.model)
            average_over_ranks(_followed_statistics(strategy))
            share_streams(strategy.device)

    # ---- evaluation -------------------------------------------------------------------

    def before_eval(self, strategy: Strategy, **kwargs: Any) -> None:
        """Keep the number of the training batch, since an epoch may continue afterwards."""
        self._training_step = self._step

    def after_eval(self, strategy: Strategy, **kwargs: Any) -> None:
        """Count the batches of the training again."""
        self._step = self._training_step

    def before_eval_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Make the loader give this rank's rows; copy rank 0's weights if a head has grown."""
        if active():
            parameters = list(strategy.model.parameters())
            shared = self._shared
            if len(shared) != len(parameters) or any(
                a is not b for a, b in zip(shared, parameters, strict=True)
            ):
                self._share(strategy)
            strategy.dataloader = own_rows(strategy.dataloader)
            self._step = 0

    def before_eval_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note which part of which batch this is."""
        if active():
            self._begin(strategy)

    def after_eval_forward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Give criterion and metrics the outputs of the whole batch."""
        if self.shard is not None:
            self._join(strategy)
            self.shard = None

    # ---- both -------------------------------------------------------------------------

    def _share(self, strategy: Strategy) -> None:
        share_model(strategy.model)
        self._shared = list(strategy.model.parameters())

    def _begin(self, strategy: Strategy) -> None:
        batches = getattr(strategy.dataloader, "batch_sampler", None)
        if not isinstance(batches, RankSlices):
            raise ValueError(
                f"strategy.dataloader became {named_kind(strategy.dataloader)} that is not "
                "spread over ranks: replace it in before_training_exp"
            )
        self.shard = Shard(batches.rank, batches.world, batches.totals[self._step])
        self._step += 1
        if len(strategy.mb_x) != max(1, self.shard.rows):
            raise ValueError(
                f"the sampler drew {self.shard.rows} rows, and the batch has "
                f"{len(strategy.mb_x)}: collate_fn must keep one row for each sample"
            )

    def resize(self, total: int) -> None:
        """Set the size of the present whole batch, after a plugin has replaced the batch.

        Args:
            total: number of rows; this rank must hold the rows ``rank, rank + world, ...``.
        """
        assert self.shard is not None
        self.shard = Shard(self.shard.rank, self.shard.world, total)

    def _join(self, strategy: Strategy) -> None:
        assert self.shard is not None
        if not isinstance(strategy.mb_output, Tensor):
            raise TypeError(
                f"the model returns {named_kind(strategy.mb_output)}: on several ranks it "
                "must return a tensor [B, ...]"
            )
        strategy.mb_output = self.shard.join(strategy.mb_output.detach())
        images, *rest = strategy.mbatch
        strategy.mbatch = [images, *map(self.shard.join, rest)]

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: between batches the plugin holds the model's parameters alone."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load nothing."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without the batch, for pickling between experiences."""
        return {**self.__dict__, "shard": None, "_shared": []}


def _check(strategy: Strategy, plugin: DistributedTraining) -> None:
    if strategy.plugins[0] is not plugin:
        raise ValueError("DistributedTraining must be the first of plugins")
    if any(isinstance(m, nn.parallel.DistributedDataParallel) for m in strategy.model.modules()):
        raise TypeError(
            "DistributedTraining sums gradients itself: give the strategy the plain model, without "
            "DistributedDataParallel"
        )
    criterion, world = strategy._criterion, distributed.get_world_size()
    if getattr(criterion, "reduction", "mean") != "mean":
        raise ValueError(
            f"criterion has reduction={criterion.reduction!r}: over ranks it must be 'mean'"
        )
    if getattr(criterion, "weight", None) is not None:
        raise ValueError(
            "criterion weighs classes, so its mean over a batch is not the mean of the ranks' "
            "means: balance classes by hard-class batches, or use one process"
        )
    accumulate = getattr(strategy, "accumulate", 1)
    if accumulate > 1 or getattr(strategy, "scaler", None) is not None:
        precision = getattr(strategy, "precision", "float32")
        raise ValueError(
            f"accumulate={accumulate}, precision={precision!r}: gradients are "
            "summed over ranks after each backward, so take accumulate=1 (several ranks share "
            "the batch already), and bf16 or float32"
        )
    if strategy.train_mb_size < world:
        raise ValueError(
            f"train_mb_size={strategy.train_mb_size} is the batch of all {world} ranks together, "
            f"so some ranks get no rows: raise it to {world} or more"
        )


def shard_of(strategy: Strategy) -> Shard | None:
    """Return this rank's part of the strategy's batch; None if it holds the whole batch."""
    first = strategy.plugins[0] if strategy.plugins else None
    return first.shard if isinstance(first, DistributedTraining) else None


def share_of(strategy: Strategy) -> float:
    """Return the weight of this process in sums over ranks; 1 for a single process."""
    shard = shard_of(strategy)
    return 1.0 if shard is None else shard.share


def batch_size(strategy: Strategy) -> int:
    """Return the number of samples in the strategy's whole batch."""
    shard = shard_of(strategy)
    return len(strategy.mb_x) if shard is None else shard.total


def check_spread(strategy: Strategy) -> None:
    """Raise ValueError in a group, unless the strategy has :class:`DistributedTraining`."""
    if active() and not any(isinstance(p, DistributedTraining) for p in strategy.plugins):
        raise ValueError(
            f"torch.distributed runs {distributed.get_world_size()} ranks, and Avalanche alone "
            "does not gather features or sum gradients: put DistributedTraining() first in plugins"
        )


def _followed_statistics(strategy: Strategy) -> list[Tensor]:
    """Return the running statistics that plugins average over steps, each once."""
    found = [
        value
        for plugin in strategy.plugins
        for value in getattr(plugin, "followed_statistics", list)()
    ]
    return list({id(value): value for value in found}.values())
