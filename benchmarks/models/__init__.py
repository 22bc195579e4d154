"""Backbones and models of runs."""
