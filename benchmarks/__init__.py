"""Benchmarks of avalanche-proxyfda: streams, methods, runs, records and the board."""
