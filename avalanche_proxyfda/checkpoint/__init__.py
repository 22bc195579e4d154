"""Exact resume: a killed training goes on to the same bits.

A checkpoint holds everything that decides the next step: model, optimizer, plugins with their
teachers and generators, metrics, counters, random streams, and the place in the epoch's batches.
Files are safetensors with JSON; nothing in them is ever executed.
"""

from avalanche_proxyfda.checkpoint.checkpoints import Checkpoints, Resumed, is_there, load, save
from avalanche_proxyfda.checkpoint.files import CheckpointError, clean
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
