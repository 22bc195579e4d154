"""Tuned models as two files, and as classifiers of image files."""

from avalanche_proxyfda import _solvers as _solvers
from avalanche_proxyfda.tuned.classifier import Prediction, TunedClassifier
from avalanche_proxyfda.tuned.description import DESCRIPTION, WEIGHTS
from avalanche_proxyfda.tuned.files import load_tuned, save_tuned, tuned_files

__all__ = [
    "DESCRIPTION",
    "WEIGHTS",
    "Prediction",
    "TunedClassifier",
    "load_tuned",
    "save_tuned",
    "tuned_files",
]
