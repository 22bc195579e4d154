"""Many runs: jobs, one launcher with one resume policy, and executors."""

from benchmarks._quiet import quiet

quiet()  # before Avalanche is imported, in worker processes as well
