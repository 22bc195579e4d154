"""Methods on weights, without Avalanche: anchors, merging, decay and gradient projection."""

from avalanche_proxyfda.weights.anchor import WeightAnchor, encoder_names
from avalanche_proxyfda.weights.average import RunningAverage
from avalanche_proxyfda.weights.digrap import GradientProjection
from avalanche_proxyfda.weights.interpolate import interpolate, interpolation_path
from avalanche_proxyfda.weights.spd import SelectiveDecay
from avalanche_proxyfda.weights.task_vectors import (
    largest,
    read_vectors,
    task_vector,
    write_vector,
)

__all__ = [
    "GradientProjection",
    "RunningAverage",
    "SelectiveDecay",
    "WeightAnchor",
    "encoder_names",
    "interpolate",
    "interpolation_path",
    "largest",
    "read_vectors",
    "task_vector",
    "write_vector",
]
