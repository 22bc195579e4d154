"""Methods on weights: anchors, interpolation, decay and gradient projection, without Avalanche."""

from avalanche_proxyfda.weights.anchor import WeightAnchor, encoder_names
from avalanche_proxyfda.weights.digrap import GradientProjection
from avalanche_proxyfda.weights.interpolate import interpolate, interpolation_path
from avalanche_proxyfda.weights.spd import SelectiveDecay

__all__ = [
    "GradientProjection",
    "SelectiveDecay",
    "WeightAnchor",
    "encoder_names",
    "interpolate",
    "interpolation_path",
]
