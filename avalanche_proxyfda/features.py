"""Reading a model's features from the forward that happens anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from avalanche_proxyfda.feature_source import FeatureSource, unwrap

Pooling = Literal["auto", "first", "mean"]


def pool_features(output: Any, name: str, pooling: Pooling = "auto") -> Tensor:
    """One vector a sample from whatever a feature module returned.

    Args:
        output: [B, D]; tokens [B, T, D]; a feature map [B, C, H, W]; or a tuple or list of
            tensors whose first entry is one of these.
        name: the module, for the error message.
        pooling: ``"auto"`` and ``"mean"`` average tokens, or the map's positions;
            ``"first"`` takes the first token.

    Returns:
        [B, D], [B, D] or [B, C].

    Raises:
        ValueError: when the output cannot be read as one vector a sample.
    """
    value = output[0] if isinstance(output, (tuple, list)) and len(output) else output
    if isinstance(value, Tensor) and value.is_floating_point():
        if value.ndim == 2:
            return value
        if value.ndim == 3:
            return value[:, 0] if pooling == "first" else value.mean(dim=1)
        if value.ndim == 4 and pooling != "first":
            return value.flatten(2).mean(dim=2)
        what = f"a tensor of shape {tuple(value.shape)}"
    else:
        what = f"a {type(value).__name__}"
    raise ValueError(
        f"feature_module={name!r} gives {what}, which is neither [B, D], tokens [B, T, D] nor "
        f"a map [B, C, H, W] that pooling={pooling!r} can turn into one vector a sample; name "
        "another module"
    )


class Capture:
    """Keeps the first value of each place, as it was when it was seen.

    A later module may change a tensor in place (dropout and ReLU often do). So each place's
    first value is copied; once a forward has shown that nothing changes it, its values are
    kept as they are.
    """

    def __init__(self) -> None:
        self._seen: dict[FeatureSource, tuple[Any, Any, int]] = {}
        self._safe: set[FeatureSource] = set()

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def safe(self) -> list[tuple[str, bool]]:
        """Places whose values are kept as they are; a copy would change gradients by their bits."""
        return sorted((source.module, source.of_input) for source in self._safe)

    def trust(self, places: Iterable[tuple[str, bool]]) -> None:
        """Keep values of :attr:`safe` places as they are from the start."""
        self._safe = {FeatureSource(*place) for place in places}

    def keep(self, source: FeatureSource, value: Any) -> None:
        """Keep ``value``, unless the place was seen before."""
        if source in self._seen:
            return
        part = value[0] if isinstance(value, (tuple, list)) and value else value
        if not isinstance(part, Tensor):
            self._seen[source] = (value, None, 0)
            return
        kept = value
        # in a traced graph versions mean nothing, so there every value is copied
        if torch.compiler.is_compiling() or source not in self._safe:
            kept = part.clone() if part is value else (part.clone(), *value[1:])
        self._seen[source] = (kept, part, part._version)

    def take(self) -> dict[FeatureSource, Any]:
        """What was kept; nothing is, after that.

        Raises:
            ValueError: when a value that had been left alone before was changed in place.
        """
        seen, self._seen = self._seen, {}
        for source, (kept, value, version) in seen.items():
            if value is None:
                continue
            changed = value._version != version
            inner = kept[0] if isinstance(kept, (tuple, list)) else kept
            if changed and inner is value:
                raise ValueError(
                    f"what {str(source)!r} holds was changed in place by a later module, which it "
                    "was not in the first batch: use inplace=False there"
                )
            if not changed:
                self._safe.add(source)
        return {source: kept for source, (kept, _, _) in seen.items()}

    def clear(self) -> None:
        """Forget what was seen."""
        self._seen = {}


class FeatureTap:
    """Keeps what named places of a model hold while the student's own forward runs.

    Hooks are put on by :meth:`attach` and taken off by :meth:`detach`; between :meth:`arm`
    and :meth:`take` the first value of each place is kept, at other times nothing is. So
    forwards that a strategy or its plugins make beside the one for the batch, or without
    gradient, are not mistaken for it.

    Args:
        sources: the places to read, see :class:`FeatureSource`.

    Attributes:
        autocast: dtype of the autocast that kept values were made under, or None.
    """

    def __init__(self, sources: tuple[FeatureSource, ...]) -> None:
        self.sources = sources
        self._handles: list[RemovableHandle] = []
        self.capture = Capture()
        self._armed = self._without_gradient = False
        self._compiled = False
        self.autocast: torch.dtype | None = None

    def attach(self, model: nn.Module) -> None:
        """Put the hooks on ``model`` (unwrapped); any earlier ones are taken off first.

        Raises:
            ValueError: when a module is not there.
        """
        self.detach()
        inner = unwrap(model)
        self._compiled = hasattr(model, "_orig_mod")
        for source, module in [(s, s.find(inner)) for s in self.sources]:
            self._handles.append(hook(module, source.of_input, partial(self._keep, source)))

    def _keep(self, source: FeatureSource, value: Any) -> None:
        if not self._armed or torch.is_grad_enabled() == self._without_gradient:
            return
        self.capture.keep(source, value)
        kind = value.device.type if isinstance(value, Tensor) else "cpu"
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            self.autocast = torch.get_autocast_dtype(kind)

    def arm(self, without_gradient: bool = False) -> None:
        """Forget what was seen and start to keep values.

        Args:
            without_gradient: of the forwards without gradient, and of these alone.
        """
        self.capture.clear()
        self._without_gradient = without_gradient
        self.autocast = None
        self._armed = True

    def take(self) -> dict[FeatureSource, Any]:
        """Stop keeping and return the values by place.

        Raises:
            ValueError: when a module did not run since :meth:`arm`.
        """
        self._armed = False
        seen = self.capture.take()
        for source in self.sources:
            if source not in seen:
                hint = (
                    "; a model that ran compiled before does not see new hooks: call "
                    "torch.compiler.reset() before training"
                    if self._compiled
                    else ""
                )
                raise ValueError(
                    f"{str(source)!r} was not run by the model's forward, or ran "
                    "without gradient; name a module that the training forward calls (plain "
                    f"functions and unused branches have nothing to read){hint}"
                )
        return seen

    def detach(self) -> None:
        """Take the hooks off and forget everything; safe to call twice."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._armed = [], False
        self.capture.clear()


def batch_first(value: Any, module: nn.Module) -> Any:
    """``value`` with the batch on its first axis.

    Tokens of a module whose attention works on [T, B, D] (torch's own layers unless they are
    told otherwise, open_clip's blocks before 2.26) become [B, T, D]. The shape cannot tell:
    there may be as many tokens as samples.
    """
    if not isinstance(value, Tensor) or value.ndim != 3:
        return value
    attention = [m for m in module.modules() if isinstance(m, nn.MultiheadAttention)]
    turned = bool(attention) and not any(m.batch_first for m in attention)
    return value.transpose(0, 1) if turned else value


def hook(module: nn.Module, of_input: bool, tell: Callable[[Any], None]) -> RemovableHandle:
    """Call ``tell`` with what the module is first given, or with what it returns."""

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tell(batch_first(next(iter((*args, *kwargs.values())), None), module))

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        tell(batch_first(output, module))

    if of_input:
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)
