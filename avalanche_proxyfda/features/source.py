"""One place of a model: the output or the input of a named module."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from torch import nn

_INPUT = ":input"


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside ``torch.compile`` and DistributedDataParallel wrappers.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> unwrap(model) is model
        True
    """
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


@dataclass(frozen=True)
class FeatureSource:
    """One place of a model: the output or the first argument of a named module.

    As a string, ``"visual"`` is the output of the module ``visual``. ``"head:input"`` is the
    first argument of the module ``head``, which is the embedding that enters the head.

    Attributes:
        module: name of the module; the empty name is the whole model.
        of_input: True for the module's first argument, False for its output.

    Example:
        >>> FeatureSource.parse("head:input")
        FeatureSource(module='head', of_input=True)
    """

    module: str
    of_input: bool = False

    @staticmethod
    def parse(text: str, option: str = "feature_module") -> FeatureSource:
        """Read ``"name"`` or ``"name:input"``.

        Args:
            text: the string.
            option: name of the argument that ``text`` is the value of, for error messages.

        Raises:
            TypeError: when ``text`` is no string.
            ValueError: when ``text`` has an empty name.
        """
        if not isinstance(text, str):
            raise TypeError(f"{option}={text!r} must be the name of a module, or None")
        name = text.removesuffix(_INPUT)
        if not name:
            raise ValueError(f"{option}={text!r} is empty; give a module's name, or None")
        return FeatureSource(name, of_input=name != text)

    def __str__(self) -> str:
        return (self.module or "the whole model") + (_INPUT if self.of_input else "")

    def find(self, model: nn.Module, option: str = "feature_module") -> nn.Module:
        """Return the module in the unwrapped ``model``.

        Args:
            model: model to search.
            option: name of the argument that gave this place, for the error message.

        Raises:
            ValueError: when ``model`` lacks the module; the message lists similar names.
        """
        if not self.module:
            return model
        names = [n for n, _ in model.named_modules() if n]
        if self.module in names:
            return model.get_submodule(self.module)
        near = difflib.get_close_matches(self.module, names, n=5, cutoff=0.4) or names[:5]
        raise ValueError(
            f"{option}={self.module!r} is not a module of {type(model).__name__}; "
            f"near names: {', '.join(near) or 'none, the model has no named modules'}"
        )


OUTPUT = FeatureSource("")
"""The output of the model itself: its logits."""
