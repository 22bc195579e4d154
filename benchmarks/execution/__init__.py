"""Many runs: jobs, one launcher, and its executors."""
