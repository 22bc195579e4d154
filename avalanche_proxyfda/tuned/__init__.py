"""Tuned models as two files, and as classifiers of image files."""

from avalanche_proxyfda import _solvers as _solvers
from avalanche_proxyfda.tuned.classifier import Prediction, TunedClassifier
from avalanche_proxyfda.tuned.description import DESCRIPTION, WEIGHTS, Description, Task
from avalanche_proxyfda.tuned.files import load_tuned, save_tuned, state_bytes, tuned_files
from avalanche_proxyfda.tuned.layers import Layer

__all__ = [
    "DESCRIPTION",
    "WEIGHTS",
    "Description",
    "Layer",
    "Prediction",
    "Task",
    "TunedClassifier",
    "load_tuned",
    "save_tuned",
    "state_bytes",
    "tuned_files",
]
