"""Modules whose calls run code of ``torch.compile``."""

from __future__ import annotations

from torch import nn

_CALL = "_compiled_call_impl"  # set by nn.Module.compile


def compiled_modules(model: nn.Module) -> list[nn.Module]:
    """Return the modules of ``model`` that ``nn.Module.compile`` compiled in place.

    Example:
        >>> from torch import nn
        >>> from avalanche_proxyfda.features.compiled import compiled_modules
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> compiled_modules(model)
        []
        >>> model[1].compile(backend="eager")
        >>> compiled_modules(model) == [model[1]]
        True
    """
    return [module for module in model.modules() if module.__dict__.get(_CALL) is not None]


def is_compiled(model: nn.Module) -> bool:
    """Return True if ``torch.compile`` wraps a module of ``model``, or compiled it in place.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from avalanche_proxyfda.features.compiled import is_compiled
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> is_compiled(model), is_compiled(torch.compile(model))
        (False, True)
    """
    wrapped = any("_orig_mod" in module._modules for module in model.modules())
    return wrapped or bool(compiled_modules(model))
