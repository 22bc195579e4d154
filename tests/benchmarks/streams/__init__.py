"""Tests of the benchmarks' streams."""
