"""Base classes that the plugins of the methods share."""
