"""A frozen copy of a model."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def frozen_copy(module: nn.Module) -> nn.Module:
    """Return a deep copy in eval mode, without hooks and gradients.

    Modules may keep tensors of the last forward, such as ``features`` of Avalanche's
    ``FeatureExtractorModel``. The copy holds them without their graph.

    The copy has no hooks because a copied closure would write the teacher's features in the
    place of the student's, and a copied bound method would copy its owner. The hooks of
    ``torch.nn.utils`` (old-style weight and spectral norm) stay, since they belong to the
    computation.

    Raises:
        RuntimeError: if torch cannot copy the module.

    Example:
        >>> from torch import nn
        >>> from avalanche_proxyfda.teacher import frozen_copy
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.Dropout())
        >>> twin = frozen_copy(model)
        >>> twin.training, any(p.requires_grad for p in twin.parameters())
        (False, False)
        >>> model.training, all(p.requires_grad for p in model.parameters())
        (True, True)
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach()  # deepcopy takes no tensor with a graph
        for name in _HOOKS:
            hooks = part.__dict__.get(name)
            if hooks is not None:  # deepcopy then takes this dict in place of the original
                of_torch = [(k, h) for k, h in hooks.items() if _belongs_to_torch(h)]
                memo[id(hooks)] = OrderedDict(copy.deepcopy(of_torch))
    try:
        twin = copy.deepcopy(module, memo)
    except (RuntimeError, TypeError) as error:
        raise RuntimeError(
            f"the teacher needs a deep copy of {type(module).__name__}, which failed ({error}). "
            "Modules that keep tensors of the last forward in lists or dictionaries cannot be "
            "copied: drop these tensors at the end of the forward"
        ) from error
    return twin.requires_grad_(False).eval()


def _belongs_to_torch(hook: object) -> bool:
    return type(hook).__module__.startswith("torch.nn.utils")


def _remove_others(module: nn.Module, parts: Iterable[str], tensors: Mapping[str, Any]) -> None:
    """Remove the submodules and tensors of ``module`` that are not named."""
    for name in {name for name, _ in module.named_modules()} - set(parts):
        above, _, last = name.rpartition(".")
        try:
            del module.get_submodule(above)._modules[last]
        except (AttributeError, KeyError):  # removed with the module above it
            continue
    for name in set(module.state_dict()) - set(tensors):
        above, _, last = name.rpartition(".")
        owner = module.get_submodule(above)
        for table in (owner._parameters, owner._buffers):
            table.pop(last, None)
