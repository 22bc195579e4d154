"""Methods on weights: anchors, interpolation and gradient projection, without Avalanche."""

from avalanche_proxyfda.weights.anchor import WeightAnchor, encoder_names
from avalanche_proxyfda.weights.digrap import GradientProjection
from avalanche_proxyfda.weights.interpolate import interpolate, interpolation_path

__all__ = [
    "GradientProjection",
    "WeightAnchor",
    "encoder_names",
    "interpolate",
    "interpolation_path",
]
