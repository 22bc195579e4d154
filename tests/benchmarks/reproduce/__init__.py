"""Tests of runs repeated from their records."""
