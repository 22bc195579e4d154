"""Tests of records and scores."""
