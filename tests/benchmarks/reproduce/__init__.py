"""Tests of runs taken up again."""
