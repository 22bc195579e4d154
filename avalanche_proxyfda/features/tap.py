"""Features read from the forward that happens anyway."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import astuple
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from avalanche_proxyfda.features.compiled import is_compiled
from avalanche_proxyfda.features.layouts import check_layout, widths_of
from avalanche_proxyfda.features.source import WHOLE_INPUT, FeatureSource, layout_of, unwrap


class Capture:
    """Stores the first value of each place in a forward, safe from later in-place changes.

    A later module may change a tensor in place; dropout and ReLU often do. The first forward
    therefore copies each value. If no module has changed the value of a place by the end of
    that forward, later forwards store the place's values without a copy.
    """

    def __init__(self) -> None:
        self._values: dict[FeatureSource, tuple[Any, Any, int]] = {}
        self._safe: set[FeatureSource] = set()

    def __len__(self) -> int:
        return len(self._values)

    @property
    def safe(self) -> list[tuple[Any, ...]]:
        """Places whose values are stored without a copy, in order of their names.

        Each place is (module, of_input), followed by entry and layout if one of them is set. A
        checkpoint records the places, since a copy can change the last bits of gradients.
        """
        ordered = sorted(self._safe, key=lambda s: (s.module, s.of_input, str(s)))
        plain = (None, None)
        return [astuple(s)[: 2 if astuple(s)[2:] == plain else 4] for s in ordered]

    def trust(self, places: Iterable[tuple[Any, ...]]) -> None:
        """Store the values of ``places``, see :attr:`safe`, without a copy from now on."""
        self._safe = {FeatureSource(*place) for place in places}

    def keep(self, source: FeatureSource, value: Any) -> None:
        """Store ``value``, unless the place already has one."""
        if source in self._values:
            return
        part = value[0] if isinstance(value, (tuple, list)) and value else value
        if not isinstance(part, Tensor):
            self._values[source] = (value, None, 0)
            return
        stored = value
        # versions mean nothing in a traced graph, so every value is copied there
        if torch.compiler.is_compiling() or source not in self._safe:
            stored = part.clone() if part is value else (part.clone(), *value[1:])
        self._values[source] = (stored, part, part._version)

    def take(self) -> dict[FeatureSource, Any]:
        """Return the stored values by place, and clear the store.

        Raises:
            ValueError: when a later module changed a value that is stored without a copy.
        """
        values, self._values = self._values, {}
        for source, (stored, value, version) in values.items():
            if value is None:
                continue
            changed = value._version != version
            inner = stored[0] if isinstance(stored, (tuple, list)) else stored
            if changed and inner is value:
                raise ValueError(
                    f"the value of {str(source)!r} was changed in place by a later module, and "
                    "was not in the first batch: set inplace=False in that module"
                )
            if not changed:
                self._safe.add(source)
        return {source: stored for source, (stored, _, _) in values.items()}

    def clear(self) -> None:
        """Drop all stored values."""
        self._values = {}


class FeatureTap:
    """Reads named places of a model while the student's training forward runs.

    :meth:`attach` registers the hooks and :meth:`detach` removes them. The tap stores the first
    value of each place between :meth:`arm` and :meth:`take`, and nothing at other times. Extra
    forwards of a strategy or its plugins, and forwards without gradient, therefore do not
    replace the values of the batch.

    A module may run several times in one forward of the model, such as a ReLU that layers
    share. The tap stores the value of the first run. The first :meth:`take` warns of such
    places, unless the model is compiled.

    Args:
        sources: places to read, see :class:`FeatureSource`.

    Attributes:
        capture: store of the values.
        autocast: dtype of the autocast that was active in the forward, or None.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from avalanche_proxyfda import FeatureSource, FeatureTap
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
        >>> tap = FeatureTap((FeatureSource("0"),))
        >>> tap.attach(model); tap.arm(); _ = model(torch.zeros(5, 4))
        >>> tap.take()[FeatureSource("0")].shape
        torch.Size([5, 3])
    """

    def __init__(self, sources: tuple[FeatureSource, ...]) -> None:
        self.sources = sources
        self._handles: list[RemovableHandle] = []
        self.capture = Capture()
        self._armed = self._without_gradient = False
        self._compiled = False
        self.autocast: torch.dtype | None = None
        self._runs: Counter[FeatureSource] = Counter()  # in the present forward of the model
        self._most_runs: Counter[FeatureSource] = Counter()
        self._counts: RemovableHandle | None = None  # until the first values are taken
        self._counted = False
        self._unknown: dict[FeatureSource, frozenset[int]] = {}  # widths, until values are taken

    def attach(self, model: nn.Module) -> None:
        """Register the hooks on the unwrapped ``model``, after removing earlier ones.

        Raises:
            ValueError: when ``model`` lacks a module that ``sources`` name.
        """
        self.detach()
        inner = unwrap(model)
        self._compiled = is_compiled(model)
        for source, module in [(s, s.find(inner)) for s in self.sources]:
            self._handles.append(hook(module, source, partial(self._keep, source)))
            if source.layout is None and layout_of(module) is None:
                self._unknown[source] = widths_of(inner, source.module)
        if not self._counted and not self._compiled:
            # a strategy may run the whole model twice, which is no second run of a place
            self._counts = hook(inner, WHOLE_INPUT, lambda _: self._runs.clear())

    def _keep(self, source: FeatureSource, value: Any) -> None:
        if not self._armed or torch.is_grad_enabled() == self._without_gradient:
            return
        if self._counts is not None:
            self._runs[source] += 1
            self._most_runs |= self._runs
        self.capture.keep(source, value)
        kind = value.device.type if isinstance(value, Tensor) else "cpu"
        # torch.compile of torch 2.11 cannot trace the question, and would divide the graph here
        available = torch.compiler.is_compiling() or torch.amp.is_autocast_available(kind)
        if available and torch.is_autocast_enabled(kind):
            self.autocast = torch.get_autocast_dtype(kind)

    def arm(self, without_gradient: bool = False) -> None:
        """Drop all stored values and start to store new ones.

        Args:
            without_gradient: True reads only forwards without gradient; False reads only
                forwards with gradient.
        """
        self.capture.clear()
        self._without_gradient = without_gradient
        self.autocast = None
        self._armed = True

    def take(self) -> dict[FeatureSource, Any]:
        """Stop storing values and return the stored ones by place.

        Raises:
            ValueError: when a module has not run since :meth:`arm`, or when the first values hold
                a map [B, H, W, C] where [B, C, H, W] is expected.
        """
        self._armed = False
        values = self.capture.take()
        for source in self.sources:
            if source not in values:
                hint = (
                    "; a compiled model that ran before does not see new hooks: call "
                    "torch.compiler.reset() before training"
                    if self._compiled
                    else ""
                )
                raise ValueError(
                    f"{str(source)!r} was not run by the model's forward, or ran "
                    "without gradient; name a module that the training forward calls (hooks "
                    f"read neither plain functions nor unused branches){hint}"
                )
        for source, widths in self._unknown.items():
            check_layout(source, values[source], widths)
        self._unknown = {}
        self._warn_of_runs()
        return values

    def _warn_of_runs(self) -> None:
        """Warn once of places that ran more than once in a forward, and stop to count."""
        if self._counts is None:
            return
        self._counts.remove()
        self._counts, self._counted = None, True
        for source, runs in self._most_runs.items():
            if runs > 1:
                warnings.warn(
                    f"{str(source)!r} ran {runs} times in one forward of the model, and the value "
                    "of the first run is read (this warning comes once): name a module that runs "
                    "once, such as one around it, or give each use a module of its own",
                    stacklevel=3,
                )

    def detach(self) -> None:
        """Remove the hooks and drop all stored values; a second call does nothing."""
        for handle in (*self._handles, *([] if self._counts is None else [self._counts])):
            handle.remove()
        self._handles, self._counts, self._armed = [], None, False
        self.capture.clear()


def batch_first(value: Any, module: nn.Module) -> Any:
    """Return ``value`` with the batch on its first axis.

    Some attention layers work on [T, B, D]: torch's own with their default
    ``batch_first=False``, and open_clip's blocks before 2.26. The function transposes the
    tokens of a module with such layers to [B, T, D]. The layers decide, since the shape is
    ambiguous: T may equal B.

    Args:
        value: input or output of ``module``; the function returns anything that is not a
            tensor of three axes unchanged.
        module: module that received or returned ``value``.
    """
    if not isinstance(value, Tensor) or value.ndim != 3:
        return value
    attention = [m for m in module.modules() if isinstance(m, nn.MultiheadAttention)]
    tokens_first = bool(attention) and not any(m.batch_first for m in attention)
    return value.transpose(0, 1) if tokens_first else value


class ModuleHook:
    """A forward hook that copies and pickles to a hook without effect.

    Others copy and pickle a model while it trains: Avalanche's plugins, ``torch.save``. A copy
    must not write into the store of the original, and a loaded model must not need the tap.

    Args:
        source: the place; a place of an input needs a pre-hook.
        tell: called with the value.
    """

    def __init__(self, source: FeatureSource, tell: Callable[[Any], None]) -> None:
        self._source, self._tell = source, tell

    def __call__(self, module: nn.Module, args: tuple[Any, ...], last: Any) -> None:
        """Pass on the first argument of ``module``, or its output, with the batch first.

        Args:
            module: the module that runs.
            args: its positional arguments.
            last: its keyword arguments (pre-hook) or its output.
        """
        of_input = self._source.of_input
        value = next(iter((*args, *last.values())), None) if of_input else last
        self._tell(batch_first(self._source.select(value, module), module))

    def __reduce__(self) -> tuple[Any, ...]:
        """Describe a callable of Python itself that takes any arguments and returns None."""
        return getattr, (nullcontext(), "__exit__")


def hook(module: nn.Module, source: FeatureSource, tell: Callable[[Any], None]) -> RemovableHandle:
    """Call ``tell`` with the value of the place ``source``, whenever its ``module`` runs."""
    call = ModuleHook(source, tell)
    if source.of_input:
        return module.register_forward_pre_hook(call, with_kwargs=True)
    return module.register_forward_hook(call)
