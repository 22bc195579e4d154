"""The class texts of a model's zero-shot heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avalanche_proxyfda.models.seen_text_head import SeenTextHead
from avalanche_proxyfda.models.text_head import TextHead
from avalanche_proxyfda.models.trained_texts import TrainedTextHead


@torch.no_grad()
def head_texts(model: nn.Module) -> Tensor | None:
    """Return the class embeddings of all zero-shot heads, [M, D]; None without such a head.

    Texts of a trained tower are encoded as the weights stand.

    Args:
        model: unwrapped.

    Example:
        >>> import torch
        >>> from avalanche_proxyfda.models import TextHead
        >>> from avalanche_proxyfda.plugins.base.head_texts import head_texts
        >>> from torch import nn
        >>> head_texts(nn.Sequential(nn.Linear(2, 2), TextHead(torch.eye(2))))
        tensor([[1., 0.],
                [0., 1.]])
        >>> head_texts(nn.Linear(2, 2)) is None
        True
    """
    heads = list[Tensor]()
    for module in model.modules():
        if isinstance(module, TrainedTextHead):
            heads.append(module.fixed().weight)
        elif isinstance(module, (TextHead, SeenTextHead)):
            heads.append(module.weight)
    return torch.cat(heads).clone() if heads else None
