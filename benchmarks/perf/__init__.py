"""What methods cost: ``python -m benchmarks perf``. Timings are asserted by ``--check`` alone."""
