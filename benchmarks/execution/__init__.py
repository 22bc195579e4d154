"""Many runs: jobs, one launcher with one resume policy, and the executors that it can use."""

from benchmarks._quiet import quiet

quiet()  # before Avalanche is imported, in worker processes as well
