"""The layers that the methods share."""
