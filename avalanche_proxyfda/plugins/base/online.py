"""Online mining: the batch of a step is chosen among the loader's candidates."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from avalanche_proxyfda._modes import in_eval_mode as in_eval_mode
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.data.mining import SigmoidValues, hardest_classes
from avalanche_proxyfda.distributed.plugin import DistributedTraining, shard_of
from avalanche_proxyfda.distributed.ranks import computed_by_main
from avalanche_proxyfda.teacher.cache.batch import MarkedBatch
from avalanche_proxyfda.teacher.cache.store import index_of


def train_on_hardest(
    strategy: Strategy,
    student: Tensor,
    teacher: Tensor,
    sizes: tuple[int, int],
    sigmoid: SigmoidValues,
) -> None:
    """Replace the strategy's batch of candidates by the hardest classes in it.

    The first class of the candidates starts the batch. On several ranks, rank 0 chooses the
    classes, since two models of GPU may round differently, and every rank takes its rows of the
    chosen batch.

    Args:
        strategy: its ``mbatch`` holds n samples of each of C classes, class after class.
        student: [C n, D], features of the whole batch of candidates.
        teacher: [C n, D'], the teacher's features of the same samples.
        sizes: (m, n).
        sigmoid: scale, bias and weights of Eq. 2.
    """
    count, each = sizes
    students, teachers = (rows.view(-1, each, rows.shape[1]) for rows in (student, teacher))
    batch, shard = strategy.mbatch, shard_of(strategy)

    def choose() -> list[int]:
        return hardest_classes(students, teachers, first=0, count=count, sigmoid=sigmoid)

    chosen = choose() if shard is None else computed_by_main(choose)
    rows = [c * each + place for c in chosen for place in range(each)]
    mine, whole = rows, list(batch)
    if shard is not None:
        whole = [shard.join(entry) for entry in batch]
        mine = rows[shard.rank :: shard.world] or rows[-1:]
        cast("DistributedTraining", strategy.plugins[0]).resize(len(rows))
    index = index_of(mine, batch[0].device)
    entries = [entry.index_select(0, index) for entry in whole]
    marked = isinstance(batch, MarkedBatch)
    strategy.mbatch = batch.chosen(entries, mine, shard) if marked else entries
