"""Backbones with heads, as models for Avalanche strategies."""

from avalanche_proxyfda.models.heads import TaskHeads

__all__ = ["TaskHeads"]
