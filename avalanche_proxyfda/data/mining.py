"""The greedy rule of hard class mining: adds the class with the largest FDA loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from avalanche_proxyfda._tensors import full_precision, unit_rows
from avalanche_proxyfda.losses.graph import NegativeWeight, edge_weight
from avalanche_proxyfda.losses.neighbors import NeighborGraph


@dataclass(frozen=True)
class SigmoidValues:
    """The values of FDA's sigmoid that mining uses.

    Attributes:
        scale: 1 / tau.
        bias: b.
        negative_weight: weight of non-neighbours.
    """

    scale: float | Tensor = 10.0
    bias: float | Tensor = -10.0
    negative_weight: NegativeWeight = "similarity"


Sigmoid = Callable[[], SigmoidValues]


@torch.no_grad()
def hardest_classes(
    student: Tensor, teacher: Tensor, first: int, count: int, sigmoid: SigmoidValues
) -> list[int]:
    """Choose the classes of a batch by hard class mining (Huang et al., ICML 2025).

    The batch starts with the class ``first``. The rule adds again and again the class with the
    largest loss sum_i L_FDA^i over its n samples i. L_FDA^i is Eq. 2 on the samples of the
    chosen classes and of the candidate, with K = n neighbours.

    Args:
        student: [C, n, D], features of n samples of each of C candidates.
        teacher: [C, n, D'], the teacher's features of the same samples.
        first: the class that starts the batch.
        count: m, classes to choose, at most C.
        sigmoid: scale, bias and weights of Eq. 2.

    Returns:
        ``count`` different numbers of classes, in the order of the choice; of equally hard
        classes the first one.

    Raises:
        ValueError: if ``count`` is above C.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.data.mining import SigmoidValues, hardest_classes
        >>> at = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.1]], [[0.9, 0.1]]])
        >>> hardest_classes(at, at, first=0, count=2, sigmoid=SigmoidValues())
        [0, 2]
    """
    classes, each = teacher.shape[:2]
    if count > classes:
        raise ValueError(f"count={count} is above the {classes} candidates: draw more candidates")
    rows, teacher_rows = (unit_rows(full_precision(x)) for x in (student, teacher))
    chosen = [torch.full((), first, device=rows.device)]  # no copy from the host
    free = torch.ones(classes, dtype=torch.bool, device=rows.device)
    free[first] = False
    itself = torch.eye(each, dtype=torch.bool, device=rows.device).expand(classes, each, each)
    # the first block of columns is the candidate's own class, each other block a chosen class
    cosines, similarities = [rows @ rows.mT], [teacher_rows @ teacher_rows.mT]
    while len(chosen) < count:
        last = chosen[-1].unsqueeze(0)
        cosines.append(rows @ rows.index_select(0, last)[0].T)
        similarities.append(teacher_rows @ teacher_rows.index_select(0, last)[0].T)
        width = each * len(cosines)
        cosine = torch.cat(cosines, dim=2).reshape(-1, width)
        similarity = torch.cat(similarities, dim=2).reshape(-1, width)
        query = F.pad(itself, (0, width - each)).reshape(-1, width)
        neighbor = NeighborGraph(similarity, query, each).is_neighbor()
        weight = edge_weight(similarity.to(cosine.dtype), neighbor, sigmoid.negative_weight)
        terms = F.softplus(-weight * (sigmoid.scale * cosine + sigmoid.bias))
        hardness = terms.masked_fill(query, 0.0).view(classes, -1).sum(dim=1)
        best = hardness.masked_fill(~free, -torch.inf).argmax()
        free = free.index_fill(0, best.unsqueeze(0), False)
        chosen.append(best)
    return [int(number) for number in torch.stack(chosen).tolist()]
