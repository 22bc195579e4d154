"""Where in a model its features are: by name, or by a preset for well-known families."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

_INPUT = ":input"
HEADS = ("classifier", "head", "heads", "fc", "linear", "output")
_TOWERS = ("VisionTransformer", "ModifiedResNet", "TimmModel")


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside ``torch.compile`` and DistributedDataParallel wrappers."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


@dataclass(frozen=True)
class FeatureSource:
    """One place of a model: what a named module returns, or what it is given.

    Written as a string, ``"visual"`` is the output of the module ``visual`` and
    ``"head:input"`` is the first argument of the module ``head``: the embedding that
    enters the head, whatever made it.
    """

    module: str
    of_input: bool = False

    @staticmethod
    def parse(text: str, option: str = "feature_module") -> FeatureSource:
        """Read ``"name"`` or ``"name:input"``, the value of the argument ``option``.

        Raises:
            TypeError, ValueError: for anything else.
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
        """The module in ``model`` (unwrapped); raises ValueError with near names if absent."""
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
"""What the model itself returns: its logits."""


def is_image_tower(module: nn.Module) -> bool:
    """Whether ``module`` is an open_clip image tower: images in, embeddings out."""
    kind = type(module)
    return kind.__module__.startswith("open_clip.") and kind.__name__ in _TOWERS


def _below(name: str, child: str) -> str:
    return f"{name}.{child}" if name else child


def _before_head(name: str, head: nn.Module) -> FeatureSource:
    """Input of the last linear layer of ``head``, before any dropout in front of it."""
    if not isinstance(head, nn.Sequential):
        return FeatureSource(name, of_input=True)
    layers = list(head)
    linear = [k for k, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    at = linear[-1] if linear else 0
    while at > 0 and isinstance(layers[at - 1], nn.Dropout):
        at -= 1
    return FeatureSource(name if at == 0 else f"{name}.{at}", of_input=True)


def _timm(name: str, module: nn.Module) -> FeatureSource | None:
    get_head = getattr(module, "get_classifier", None)
    if not callable(get_head):
        return None
    head = get_head()
    head = head[0] if isinstance(head, (tuple, list)) else head
    if isinstance(head, nn.Identity):  # num_classes=0: the model's output is the embedding
        return FeatureSource(name) if name else None
    for child, candidate in module.named_modules():
        if candidate is head:
            return FeatureSource(_below(name, child), of_input=True)
    return None


def _by_head_name(name: str, module: nn.Module) -> FeatureSource | None:
    for child, head in module.named_children():
        if child in HEADS:
            if isinstance(head, nn.Identity):  # a backbone whose head was taken off
                return FeatureSource(name) if name else None
            return _before_head(_below(name, child), head)
    return None


def _whole_or(name: str, model: nn.Module, found: FeatureSource | None) -> FeatureSource | None:
    """``found`` in the submodule ``name``, or what that returns, if layers with weights follow it.

    Then its own classifier is a layer of the backbone, and not the head.
    """
    if not name or found is None:
        return found
    names = [n for n, _ in model.named_modules()]
    last = max(k for k, n in enumerate(names) if n == name or n.startswith(name + "."))
    weighted = {n.rpartition(".")[0] for n, _ in model.named_parameters()}
    return FeatureSource(name) if weighted & set(names[last + 1 :]) else found


def _candidates(model: nn.Module) -> Iterator[FeatureSource | None]:
    modules = list(model.named_modules())
    yield from (FeatureSource(n) for n, m in modules if n and is_image_tower(m))
    yield from (
        _whole_or(n, model, _timm(n, m))
        for n, m in modules
        if type(m).__module__.startswith("timm.")
    )
    dynamic = ("MultiHeadClassifier", "IncrementalClassifier")
    yield from (FeatureSource(n, True) for n, m in modules if n and type(m).__name__ in dynamic)
    families = ("torchvision.models", "avalanche.models")
    yield from (
        _whole_or(n, model, _by_head_name(n, m))
        for n, m in modules
        if type(m).__module__.startswith(families)
    )
    yield _by_head_name("", model)


def find_feature_source(model: nn.Module) -> FeatureSource:
    """The embedding that enters the head, for families of models that are known.

    In this order: an open_clip image tower anywhere in the model (its projected
    embedding); a timm model (what enters its classifier, or its output where it has none);
    what enters Avalanche's growing or multi head; torchvision's and Avalanche's own models;
    a child called classifier, head, heads, fc, linear or output.

    Raises:
        ValueError: when none of these is found; name the module then.
    """
    model = unwrap(model)
    for source in _candidates(model):
        if source is not None:
            return source
    children = ", ".join(n for n, _ in model.named_children()) or "none"
    raise ValueError(
        f"no preset knows where the features of {type(model).__name__} are: pass "
        f"feature_module='NAME' (what the module returns) or 'NAME:input' (what it is given); "
        f"its children are: {children}"
    )
