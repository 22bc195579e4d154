"""A run taken up again from its record."""
