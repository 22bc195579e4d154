"""Task heads of Avalanche under autocast: their logits become those of Avalanche's buffer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from avalanche.models.dynamic_modules import MultiTaskModule
from torch import Tensor, nn


@contextmanager
def logits_in_default_dtype(model: nn.Module) -> Iterator[None]:
    """Convert the logits of Avalanche's task heads to torch's default dtype inside the block.

    ``MultiTaskModule.forward`` writes the logits of each task into a buffer of the default
    dtype. Under autocast the logits have a lower dtype, which torch refuses to write there.
    Modules with a forward of their own are left alone.

    Args:
        model: a model, or a part of one; its task heads are changed inside the block only.

    Example:
        >>> import torch
        >>> from avalanche.models import MultiHeadClassifier
        >>> from avalanche_proxyfda.strategies.task_logits import logits_in_default_dtype
        >>> heads = MultiHeadClassifier(4, 2, masking=False)
        >>> with torch.autocast("cpu", torch.bfloat16), logits_in_default_dtype(heads):
        ...     heads(torch.zeros(1, 4), torch.tensor([0])).dtype
        torch.float32
    """
    heads = [m for m in model.modules() if isinstance(m, MultiTaskModule) and _by_avalanche(m)]
    for module in heads:
        vars(module)["forward_single_task"] = partial(_logits, module)
    try:
        yield
    finally:
        for module in heads:
            del vars(module)["forward_single_task"]


def _by_avalanche(module: MultiTaskModule) -> bool:
    """Return True if Avalanche's forward joins the tasks, and no outer block has the module."""
    plain = type(module).forward is MultiTaskModule.forward
    return plain and "forward_single_task" not in vars(module)


def _logits(module: MultiTaskModule, x: Tensor, task_label: int) -> Tensor:
    logits: Tensor = type(module).forward_single_task(module, x, task_label)
    return logits.to(torch.get_default_dtype())
