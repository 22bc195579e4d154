"""One run: a configuration in, its record out."""
