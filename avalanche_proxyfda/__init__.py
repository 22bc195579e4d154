"""Fine-tune pre-trained vision models, task after task, without forgetting.

Public names are imported when they are first used, so that the losses and the sampler
need torch and not Avalanche.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from avalanche_proxyfda._version import __version__ as __version__

if TYPE_CHECKING:
    from avalanche_proxyfda.checkpoint import Checkpoints
    from avalanche_proxyfda.feature_maps import find_feature_maps
    from avalanche_proxyfda.feature_source import FeatureSource, find_feature_source
    from avalanche_proxyfda.features import FeatureTap
    from avalanche_proxyfda.losses.fda import FDALoss
    from avalanche_proxyfda.losses.ldifs import LDIFSLoss
    from avalanche_proxyfda.losses.proxies import ProxyGenerator
    from avalanche_proxyfda.losses.proxy_fda import ProxyFDALoss
    from avalanche_proxyfda.losses.rift import RIFTLoss
    from avalanche_proxyfda.losses.rkd import RKDLoss
    from avalanche_proxyfda.plugins.digrap import DiGraPPlugin
    from avalanche_proxyfda.plugins.fda import FDAPlugin
    from avalanche_proxyfda.plugins.l2sp import L2SPPlugin
    from avalanche_proxyfda.plugins.ldifs import LDIFSPlugin
    from avalanche_proxyfda.plugins.lp_ft import LPFTPlugin
    from avalanche_proxyfda.plugins.lwf import LwFPlugin
    from avalanche_proxyfda.plugins.proxy_fda import ProxyFDAPlugin
    from avalanche_proxyfda.plugins.rift import RIFTPlugin
    from avalanche_proxyfda.plugins.rkd import RKDPlugin
    from avalanche_proxyfda.plugins.wise_ft import WiSEFTPlugin
    from avalanche_proxyfda.prototypes import class_prototypes
    from avalanche_proxyfda.sampling import HardClassBatchSampler
    from avalanche_proxyfda.strategies.efficient import EfficientNaive, EfficientTraining
    from avalanche_proxyfda.teacher import FeatureTeacher
    from avalanche_proxyfda.weights.interpolate import interpolate, interpolation_path

_HOMES = {
    "Checkpoints": "checkpoint",
    "DiGraPPlugin": "plugins.digrap",
    "EfficientNaive": "strategies.efficient",
    "EfficientTraining": "strategies.efficient",
    "FDALoss": "losses.fda",
    "FDAPlugin": "plugins.fda",
    "FeatureSource": "feature_source",
    "FeatureTap": "features",
    "FeatureTeacher": "teacher",
    "HardClassBatchSampler": "sampling",
    "L2SPPlugin": "plugins.l2sp",
    "LDIFSLoss": "losses.ldifs",
    "LDIFSPlugin": "plugins.ldifs",
    "LPFTPlugin": "plugins.lp_ft",
    "LwFPlugin": "plugins.lwf",
    "ProxyFDALoss": "losses.proxy_fda",
    "ProxyFDAPlugin": "plugins.proxy_fda",
    "ProxyGenerator": "losses.proxies",
    "RIFTLoss": "losses.rift",
    "RIFTPlugin": "plugins.rift",
    "RKDLoss": "losses.rkd",
    "RKDPlugin": "plugins.rkd",
    "WiSEFTPlugin": "plugins.wise_ft",
    "class_prototypes": "prototypes",
    "find_feature_maps": "feature_maps",
    "find_feature_source": "feature_source",
    "interpolate": "weights.interpolate",
    "interpolation_path": "weights.interpolate",
}

__all__ = [
    "Checkpoints",
    "DiGraPPlugin",
    "EfficientNaive",
    "EfficientTraining",
    "FDALoss",
    "FDAPlugin",
    "FeatureSource",
    "FeatureTap",
    "FeatureTeacher",
    "HardClassBatchSampler",
    "L2SPPlugin",
    "LDIFSLoss",
    "LDIFSPlugin",
    "LPFTPlugin",
    "LwFPlugin",
    "ProxyFDALoss",
    "ProxyFDAPlugin",
    "ProxyGenerator",
    "RIFTLoss",
    "RIFTPlugin",
    "RKDLoss",
    "RKDPlugin",
    "WiSEFTPlugin",
    "class_prototypes",
    "find_feature_maps",
    "find_feature_source",
    "interpolate",
    "interpolation_path",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"avalanche_proxyfda.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
