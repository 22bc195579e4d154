"""The embedding that enters the head, for well-known families of models."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from avalanche_proxyfda.features.source import FeatureSource, unwrap

HEADS = ("classifier", "head", "heads", "fc", "linear", "output")
_TOWERS = ("VisionTransformer", "ModifiedResNet", "TimmModel")


def is_image_tower(module: nn.Module) -> bool:
    """Return True for an open_clip image tower, which maps images to embeddings."""
    kind = type(module)
    return kind.__module__.startswith("open_clip.") and kind.__name__ in _TOWERS


def _below(name: str, child: str) -> str:
    return f"{name}.{child}" if name else child


def _before_head(name: str, head: nn.Module) -> FeatureSource:
    """Return the input of ``head``'s last linear layer, before the dropout in front of it."""
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
    if isinstance(head, nn.Identity):  # num_classes=0: the model returns its embedding
        return FeatureSource(name) if name else None
    for child, candidate in module.named_modules():
        if candidate is head:
            return FeatureSource(_below(name, child), of_input=True)
    return None


def _by_head_name(name: str, module: nn.Module) -> FeatureSource | None:
    for child, head in module.named_children():
        if child in HEADS:
            if isinstance(head, nn.Identity):  # a backbone without its head
                return FeatureSource(name) if name else None
            return _before_head(_below(name, child), head)
    return None


def _whole_or(name: str, model: nn.Module, source: FeatureSource | None) -> FeatureSource | None:
    """Return ``source``, or the output of the submodule ``name`` that holds it.

    If layers with weights follow the submodule, then its classifier is a layer of the backbone
    and not the head, so the function returns the submodule's output.
    """
    if not name or source is None:
        return source
    names = [n for n, _ in model.named_modules()]
    last = max(k for k, n in enumerate(names) if n == name or n.startswith(name + "."))
    weighted = {n.rpartition(".")[0] for n, _ in model.named_parameters()}
    return FeatureSource(name) if weighted & set(names[last + 1 :]) else source


def _is_dynamic_head(module: nn.Module) -> bool:
    """Return True for Avalanche's growing and multi heads, and for heads derived from them."""
    names = {kind.__name__ for kind in type(module).__mro__}
    return not names.isdisjoint({"MultiHeadClassifier", "IncrementalClassifier"})


def _candidates(model: nn.Module) -> Iterator[FeatureSource | None]:
    modules = list(model.named_modules())
    yield from (FeatureSource(n) for n, m in modules if n and is_image_tower(m))
    yield from (
        _whole_or(n, model, _timm(n, m))
        for n, m in modules
        if type(m).__module__.startswith("timm.")
    )
    yield from (FeatureSource(n, True) for n, m in modules if n and _is_dynamic_head(m))
    families = ("torchvision.models", "avalanche.models")
    yield from (
        _whole_or(n, model, _by_head_name(n, m))
        for n, m in modules
        if type(m).__module__.startswith(families)
    )
    yield _by_head_name("", model)


def find_feature_source(model: nn.Module) -> FeatureSource:
    """Return the place of the embedding that enters the head, for known families of models.

    The first match in this order decides:

    1. the output of an open_clip image tower anywhere in the model;
    2. the input of a timm model's classifier, or the output of a timm model without one;
    3. the input of Avalanche's ``IncrementalClassifier`` or ``MultiHeadClassifier``;
    4. the input of the head of a torchvision or Avalanche model;
    5. the input of a child called classifier, head, heads, fc, linear or output.

    Raises:
        ValueError: when the model matches none of these; the user must name the module.

    Example:
        >>> from collections import OrderedDict
        >>> layers = OrderedDict(body=nn.Linear(4, 3), head=nn.Linear(3, 2))
        >>> str(find_feature_source(nn.Sequential(layers)))
        'head:input'
    """
    model = unwrap(model)
    for source in _candidates(model):
        if source is not None:
            return source
    children = ", ".join(n for n, _ in model.named_children()) or "none"
    raise ValueError(
        f"no preset knows where the features of {type(model).__name__} are: pass "
        f"feature_module='NAME' (the module's output) or 'NAME:input' (its first argument); "
        f"its children are: {children}"
    )
