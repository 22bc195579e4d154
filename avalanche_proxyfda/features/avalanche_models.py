"""Avalanche's wrappers around a feature extractor, and its heads that grow.

Classes are identified by name, since an import of Avalanche takes seconds.
"""

from __future__ import annotations

from torch import nn

from avalanche_proxyfda.features.source import FeatureSource

_HEADS = {"MultiHeadClassifier", "IncrementalClassifier", "CosineIncrementalClassifier"}
_WRAPPERS = {"FeatureExtractorModel", "TrainEvalModel", "SCRModel"}


def _names(module: nn.Module) -> set[str]:
    """Return the names of a module's class and of its base classes in Avalanche."""
    kinds = type(module).__mro__
    return {kind.__name__ for kind in kinds if kind.__module__.startswith("avalanche.")}


def is_dynamic_head(module: nn.Module) -> bool:
    """Return True for Avalanche's growing and multi heads, and for heads derived from them.

    Example:
        >>> from torch import nn
        >>> from avalanche_proxyfda.features.avalanche_models import is_dynamic_head
        >>> is_dynamic_head(nn.Linear(3, 2))
        False
    """
    return not _names(module).isdisjoint(_HEADS)


def wrapped_extractor(name: str, module: nn.Module) -> FeatureSource | None:
    """Return the place of the features inside one of Avalanche's wrappers; None for others.

    ``FeatureExtractorModel``, ``TrainEvalModel`` and ``SCRModel`` give the output of their
    ``feature_extractor`` to a classifier; the last two take another classifier in eval mode.
    ``FeatureExtractorBackbone`` returns a detached copy of the layer that it names, so the
    place is the layer itself.

    Args:
        name: name of the module in the model.
        module: any module.

    Example:
        >>> from torch import nn
        >>> from avalanche_proxyfda.features.avalanche_models import wrapped_extractor
        >>> wrapped_extractor("body", nn.Linear(3, 2)) is None
        True
    """
    kinds = _names(module)
    prefix = f"{name}." if name else ""
    if "FeatureExtractorBackbone" in kinds:
        return FeatureSource(f"{prefix}model.{module.output_layer_name}")
    if not kinds.isdisjoint(_WRAPPERS):
        return FeatureSource(f"{prefix}feature_extractor")
    return None
