"""Backbones and models that runs train."""
