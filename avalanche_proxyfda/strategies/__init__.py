"""Avalanche's SGD strategies with mixed precision and accumulated gradients."""

from avalanche_proxyfda.strategies.efficient import EfficientNaive, EfficientTraining
from avalanche_proxyfda.strategies.precision import Precision, autocast

__all__ = ["EfficientNaive", "EfficientTraining", "Precision", "autocast"]
