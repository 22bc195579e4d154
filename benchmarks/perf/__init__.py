"""Timings; never asserted in tests."""
