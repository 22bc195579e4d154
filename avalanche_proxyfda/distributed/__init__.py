"""Training on several processes (torchrun) that equals training on one.

Every batch is that of a single process. Rank r of R takes its rows r, r + R, r + 2R, …;
whatever relates samples is computed on the features of the whole batch; gradients, weighted
by the ranks' shares of the rows, are summed. So nothing depends on the number of ranks but
what is drawn (dropout, random views) and what normalises over a batch (BatchNorm); see
``docs/distributed.md``.
"""

from avalanche_proxyfda.distributed.plugin import DistributedTraining
from avalanche_proxyfda.distributed.ranks import Shard, active, process_group, sum_over_ranks

__all__ = ["DistributedTraining", "Shard", "active", "process_group", "sum_over_ranks"]
