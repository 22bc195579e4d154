"""One place of a model: the output or the input of a named module."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from torch import Tensor, nn

from avalanche_proxyfda._checks import named_kind

Layout = Literal["channels_first", "channels_last"]

_TEXT = re.compile(r"(.*?)(?:\[(\d+)\])?(:input)?(?::(channels_first|channels_last))?", re.DOTALL)
_SUFFIXES = ("input", "channels_last", "channels_first")
_KNOWN = "'[1]' (an entry, counted from 0), ':input', ':channels_last' or ':channels_first'"


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside ``torch.compile`` and DistributedDataParallel wrappers.

    Example:
        >>> from torch import nn
        >>> from avalanche_proxyfda.features.source import unwrap
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
    ``"stage2[1]"`` is entry 1 of an output that is a tuple or a list. ``"layers.0:channels_last"``
    is a feature map [B, H, W, C].

    Attributes:
        module: name of the module; the empty name is the whole model.
        of_input: True for the module's first argument, False for its output.
        entry: number of the entry, for a value that is a tuple or a list; None takes the value
            as it is.
        layout: order of the axes of a map with four axes. ``"channels_last"`` is [B, H, W, C]
            and is turned into [B, C, H, W]; None stands for [B, C, H, W], unless the module
            itself works on the last axis, see :func:`layout_of`.

    Example:
        >>> from avalanche_proxyfda import FeatureSource
        >>> FeatureSource.parse("head:input")
        FeatureSource(module='head', of_input=True, entry=None, layout=None)
        >>> str(FeatureSource("stage2", entry=1))
        'stage2[1]'
    """

    module: str
    of_input: bool = False
    entry: int | None = None
    layout: Layout | None = None

    @staticmethod
    def parse(text: str, option: str = "feature_module") -> FeatureSource:
        """Read ``"name"``, with ``[entry]``, ``:input`` and the layout behind it, in this order.

        Args:
            text: the string.
            option: name of the argument that ``text`` is the value of, for error messages.

        Raises:
            TypeError: when ``text`` is no string.
            ValueError: when ``text`` has an empty name.
        """
        if not isinstance(text, str):
            raise TypeError(f"{option}={text!r} must be the name of a module, or None")
        parts = _TEXT.fullmatch(text)
        name, entry, of_input, layout = parts.groups() if parts else ("", None, None, None)
        if not name:
            raise ValueError(f"{option}={text!r} is empty; give a module's name, or None")
        return FeatureSource(
            name,
            of_input is not None,
            None if entry is None else int(entry),
            cast("Layout | None", layout),
        )

    def __str__(self) -> str:
        entry = "" if self.entry is None else f"[{self.entry}]"
        of_input = ":input" if self.of_input else ""
        layout = "" if self.layout is None else f":{self.layout}"
        return f"{self.module or 'the whole model'}{entry}{of_input}{layout}"

    def find(
        self,
        model: nn.Module,
        option: str = "feature_module",
        preset: Callable[[nn.Module], FeatureSource] | None = None,
    ) -> nn.Module:
        """Return the module in the unwrapped ``model``.

        Args:
            model: model to search.
            option: name of the argument that gave this place, for the error message.
            preset: returns the usual place of a model, which the message offers if no name is
                similar; None offers none.

        Raises:
            ValueError: when ``model`` lacks the module, and the message lists similar names, or
                names a suffix that is unknown; or
                when the module is a list that never runs, and the message lists its members.
        """
        if not self.module:
            return model
        names = [n for n, _ in model.named_modules() if n]
        if self.module not in names:
            self._refuse_suffix(option)
            near = difflib.get_close_matches(self.module, names, n=5, cutoff=0.4)
            usual = None if near or preset is None else _usual_place(model, preset)
            remedy = f"near names: {', '.join(near or names[:5])}"
            if usual is not None:
                remedy = f"no name is near; the preset reads {str(usual)!r}, with {option}=None"
            elif not names:
                remedy = "near names: none, the model has no named modules"
            raise ValueError(
                f"{option}={self.module!r} is not a module of {type(model).__name__}; {remedy}"
            )
        module = model.get_submodule(self.module)
        if type(module).forward is nn.Module.forward:
            members = ", ".join(f"{self.module}.{n}" for n, _ in module.named_children())
            raise ValueError(
                f"{option}={str(self)!r} is {named_kind(module)}, which holds modules and "
                f"never runs itself; name one of its members: {members or 'it has none'}"
            )
        return module

    def _refuse_suffix(self, option: str) -> None:
        """Raise ValueError for a name that ends with what looks like a suffix."""
        entry = re.search(r"\[[^\]]*\]$", self.module)
        _, colon, word = self.module.rpartition(":")
        if entry is not None:
            reason = f"ends with {entry[0]!r}, which is no entry"
        elif colon and word in _SUFFIXES:
            reason = f"has ':{word}' in the wrong place"
        elif colon:
            near = difflib.get_close_matches(word, _SUFFIXES, n=1)
            hint = f" (did you mean ':{near[0]}'?)" if near else ""
            reason = f"ends with the unknown suffix ':{word}'{hint}"
        else:
            return
        raise ValueError(
            f"{option}={str(self)!r} {reason}; the suffixes of a name are, in this order, {_KNOWN}"
        )

    def select(self, value: Any, module: nn.Module) -> Any:
        """Return this place's part of a value, with the channels of a map on axis 1.

        Args:
            value: output or first argument of ``module``.
            module: the module of this place.

        Raises:
            ValueError: when ``value`` lacks the entry.
        """
        if self.entry is not None:
            if not isinstance(value, (tuple, list)) or self.entry >= len(value):
                kind = type(value).__name__
                many = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
                raise ValueError(
                    f"{str(self)!r} names entry {self.entry}, and the module's value is a "
                    f"{kind}{many}: name an entry that exists, or the module alone"
                )
            value = value[self.entry]
        if isinstance(value, Tensor) and value.ndim == 4:
            last = (self.layout or layout_of(module)) == "channels_last"
            return value.permute(0, 3, 1, 2) if last else value
        return value


def _usual_place(
    model: nn.Module, preset: Callable[[nn.Module], FeatureSource]
) -> FeatureSource | None:
    """Return the place of the preset; None for a model that the preset does not know."""
    try:
        return preset(model)
    except ValueError:
        return None


def layout_of(module: nn.Module) -> Layout | None:
    """Return the layout of the maps that ``module`` takes and gives; None if unknown.

    A linear layer works on the last axis. ``nn.LayerNorm`` does so too, but classes derived from
    it may not. Convolutions and batch norms work on axis 1.

    Args:
        module: module of a place.

    Example:
        >>> from torch import nn
        >>> from avalanche_proxyfda.features.source import layout_of
        >>> layout_of(nn.Linear(3, 2)), layout_of(nn.Identity())
        ('channels_last', None)
    """
    if isinstance(module, nn.Linear) or type(module) is nn.LayerNorm:
        return "channels_last"
    return "channels_first" if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)) else None


OUTPUT = FeatureSource("")
"""The output of the model itself: its logits."""

WHOLE_INPUT = FeatureSource("", of_input=True)
"""The first argument of a module itself."""
