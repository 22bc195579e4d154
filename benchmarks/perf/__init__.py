"""Costs of the methods: ``python -m benchmarks perf``. Only ``--check`` asserts timings."""
