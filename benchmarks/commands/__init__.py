"""The commands of ``python -m benchmarks``: options and printing."""
