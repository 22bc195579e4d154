"""Streams of experiences to learn, and the panels beside them."""
