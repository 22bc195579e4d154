"""Streams of experiences to learn, and panels of data sets to probe."""
