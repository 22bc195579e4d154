"""The embedding that enters the head, for well-known families of models."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from avalanche_proxyfda.features.avalanche_models import is_dynamic_head, wrapped_extractor
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
    names, layers = [child for child, _ in head.named_children()], list(head.children())
    if not isinstance(head, nn.Sequential):
        in_head = type(head).__module__.startswith("pytorchcv.") and len(layers) > 1
        last = names[-1] if in_head and isinstance(layers[-1], nn.Linear) else None
        return FeatureSource(name if last is None else f"{name}.{last}", of_input=True)
    linear = [k for k, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    at = linear[-1] if linear else 0
    while at > 0 and isinstance(layers[at - 1], nn.Dropout):
        at -= 1
    return FeatureSource(name if at == 0 else f"{name}.{names[at]}", of_input=True)


def _sequential(model: nn.Module) -> FeatureSource | None:
    """Return the input of the last linear layer of a plain ``nn.Sequential``.

    No layer with weights may follow the linear layer, and one must come before it.
    """
    if not isinstance(model, nn.Sequential):
        return None
    weighted = [(n, m) for n, m in model.named_children() if any(True for _ in m.parameters())]
    if not weighted:
        return None
    name, head = weighted[-1]
    if isinstance(head, nn.Linear) and len(weighted) > 1:
        names = [child for child, _ in model.named_children()]
        at = names.index(name)
        while isinstance(model[at - 1], nn.Dropout):
            at -= 1
        return FeatureSource(names[at], of_input=True)
    inner = _sequential(head)
    if inner is not None:
        return FeatureSource(_below(name, inner.module), of_input=True)
    layers = [m for m in head.modules() if any(True for _ in m.parameters(recurse=False))]
    only_linear = isinstance(head, nn.Sequential) and [type(m) for m in layers] == [nn.Linear]
    return _before_head(name, head) if only_linear and len(weighted) > 1 else None


def _timm_heads(module: nn.Module) -> list[nn.Module] | None:
    """Return the classifiers of a timm model; None for a module that has none to give."""
    get_head = getattr(module, "get_classifier", None)
    if not callable(get_head):
        return None
    try:
        given = get_head()
    except AttributeError:  # some families ask the Identity in the head's place for its layer
        return [nn.Identity()]
    heads = list(given) if isinstance(given, (tuple, list)) else [given]
    return list(heads[0]) if heads and isinstance(heads[0], nn.ModuleList) else heads


def _timm(name: str, module: nn.Module) -> FeatureSource | None:
    heads = _timm_heads(module)
    if not heads:
        return None
    if isinstance(heads[0], nn.Identity):  # num_classes=0: the model returns its embedding
        return FeatureSource(name) if name else None
    names = {child: candidate for candidate, child in module.named_modules()}
    if isinstance(module.get_submodule(names[heads[0]].rpartition(".")[0]), nn.ModuleList):
        branches = [f"{_below(name, names[head])}:input" for head in heads]
        raise ValueError(
            f"{type(module).__name__} joins the logits of {len(heads)} heads, each with an "
            f"embedding of its own, so no single embedding enters a head: choose one of "
            f"feature_module={', '.join(map(repr, branches))}, or build the model without heads "
            "(num_classes=0), which returns one embedding"
        )
    pools = isinstance(getattr(heads[0], "global_pool", None), nn.Module)
    inner = ".fc" if pools and isinstance(getattr(heads[0], "fc", None), nn.Module) else ""
    return FeatureSource(_below(name, names[heads[0]]) + inner, of_input=True)


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


def _candidates(model: nn.Module) -> Iterator[FeatureSource | None]:
    modules = list(model.named_modules())
    yield from (wrapped_extractor(n, m) for n, m in modules)
    yield from (FeatureSource(n) for n, m in modules if n and is_image_tower(m))
    yield from (
        _whole_or(n, model, _timm(n, m))
        for n, m in modules
        if type(m).__module__.startswith("timm.")
    )
    yield from (FeatureSource(n, True) for n, m in modules if n and is_dynamic_head(m))
    families = ("torchvision.models", "avalanche.models", "pytorchcv.")
    yield from (
        _whole_or(n, model, _by_head_name(n, m))
        for n, m in modules
        if type(m).__module__.startswith(families)
    )
    yield _by_head_name("", model)
    yield _sequential(model)


def find_feature_source(model: nn.Module) -> FeatureSource:
    """Return the place of the embedding that enters the head, for known families of models.

    The first match in this order decides:

    1. the output of the feature extractor in Avalanche's ``FeatureExtractorModel``,
       ``TrainEvalModel`` or ``SCRModel``, or the layer that ``FeatureExtractorBackbone`` names;
    2. the output of an open_clip image tower anywhere in the model;
    3. the input of a timm model's classifier, or the output of a timm model without one;
    4. the input of Avalanche's ``IncrementalClassifier``, ``CosineIncrementalClassifier`` or
       ``MultiHeadClassifier``;
    5. the input of the head of a torchvision, Avalanche or pytorchcv model;
    6. the input of a child called classifier, head, heads, fc, linear or output;
    7. the input of the last layer of a plain ``nn.Sequential``, if that is an ``nn.Linear``.

    Where a dropout stands before the last linear layer of a Sequential, the embedding is the
    dropout's input. The distilled DeiT and PiT of timm have two heads; the preset reads what
    enters the first, ``head``: the class token. The distillation token, which enters
    ``head_dist``, is not compared; ``feature_module="head_dist:input"`` compares it instead.

    Raises:
        ValueError: when the model matches none of these, or is a timm model with several heads,
            such as CrossViT; the user must name the module.

    Example:
        >>> from collections import OrderedDict
        >>> from torch import nn
        >>> from avalanche_proxyfda import find_feature_source
        >>> layers = OrderedDict(body=nn.Linear(4, 3), head=nn.Linear(3, 2))
        >>> str(find_feature_source(nn.Sequential(layers)))
        'head:input'
        >>> str(find_feature_source(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))))
        '2:input'
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
