"""Backbones with heads, as models for Avalanche strategies."""

from avalanche_proxyfda.models.heads import TaskHeads, UnitHeads

__all__ = ["TaskHeads", "UnitHeads"]
