"""Tests of one run."""
