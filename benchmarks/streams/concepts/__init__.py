"""The embedded stream: small data sets that need no download."""
