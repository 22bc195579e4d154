"""Fine-tune pre-trained vision models, task after task, without forgetting.

Public names are imported when they are first used, so that the losses and the sampler
need torch and not Avalanche.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avalanche_proxyfda.feature_source import FeatureSource, find_feature_source
    from avalanche_proxyfda.features import FeatureTap
    from avalanche_proxyfda.losses.fda import FDALoss
    from avalanche_proxyfda.losses.proxies import ProxyGenerator
    from avalanche_proxyfda.losses.proxy_fda import ProxyFDALoss
    from avalanche_proxyfda.plugins.fda import FDAPlugin
    from avalanche_proxyfda.plugins.proxy_fda import ProxyFDAPlugin
    from avalanche_proxyfda.prototypes import class_prototypes
    from avalanche_proxyfda.sampling import HardClassBatchSampler
    from avalanche_proxyfda.teacher import FeatureTeacher

__version__ = "0.1.0"

_HOMES = {
    "FDALoss": "losses.fda",
    "FDAPlugin": "plugins.fda",
    "FeatureSource": "feature_source",
    "FeatureTap": "features",
    "FeatureTeacher": "teacher",
    "HardClassBatchSampler": "sampling",
    "ProxyFDALoss": "losses.proxy_fda",
    "ProxyFDAPlugin": "plugins.proxy_fda",
    "ProxyGenerator": "losses.proxies",
    "class_prototypes": "prototypes",
    "find_feature_source": "feature_source",
}

__all__ = [
    "FDALoss",
    "FDAPlugin",
    "FeatureSource",
    "FeatureTap",
    "FeatureTeacher",
    "HardClassBatchSampler",
    "ProxyFDALoss",
    "ProxyFDAPlugin",
    "ProxyGenerator",
    "class_prototypes",
    "find_feature_source",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"avalanche_proxyfda.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
