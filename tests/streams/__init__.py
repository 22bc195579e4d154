"""Tests of the package's streams."""
