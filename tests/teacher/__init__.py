"""Tests of the teacher and its cache."""
