"""Sweeps: streams, methods, seeds and strengths, each run once, on one machine or many."""
