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
    """Return True if ``torch.compile`` wraps ``model``, or compiled a module of it in place."""
    return hasattr(model, "_orig_mod") or bool(compiled_modules(model))
