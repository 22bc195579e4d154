"""Exact resume: a training that was killed resumes, and ends with the same numbers.

A checkpoint holds everything that decides the next steps: model, optimizer, plugins with their
teachers and generators, metrics, counters, random streams, and the position in the epoch.
Checkpoints are safetensors files with JSON. Loading a checkpoint executes no code from it.
"""

from avalanche_proxyfda.checkpoint.checkpoints import Checkpoints
from avalanche_proxyfda.checkpoint.files import CheckpointError, clean
from avalanche_proxyfda.checkpoint.folder import Resumed, is_there, load, save
from avalanche_proxyfda.checkpoint.tree import UnsavedError

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "Resumed",
    "UnsavedError",
    "clean",
    "is_there",
    "load",
    "save",
]
