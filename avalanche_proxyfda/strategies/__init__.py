"""Mixed precision and gradient accumulation for Avalanche's SGD strategies."""

from avalanche_proxyfda.strategies.efficient import EfficientNaive, EfficientTraining
from avalanche_proxyfda.strategies.precision import Precision, autocast

__all__ = ["EfficientNaive", "EfficientTraining", "Precision", "autocast"]
