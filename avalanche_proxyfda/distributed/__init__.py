"""Training on several processes (torchrun) that equals training on one process.

Every batch is the batch of a single process. Rank r of R takes the rows r, r + R, r + 2R, …
Losses that relate samples are computed on the features of the whole batch. Gradients are
weighted by the ranks' shares of the rows and summed. So only random draws (dropout, random
views) and BatchNorm's batch statistics depend on the number of ranks; see
``docs/distributed.md``.
"""

from avalanche_proxyfda.distributed.group import process_group
from avalanche_proxyfda.distributed.plugin import DistributedTraining
from avalanche_proxyfda.distributed.ranks import (
    Shard,
    active,
    computed_by_main,
    sum_over_ranks,
)

__all__ = [
    "DistributedTraining",
    "Shard",
    "active",
    "computed_by_main",
    "process_group",
    "sum_over_ranks",
]
