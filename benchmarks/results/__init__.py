"""Records of runs, and the numbers that are derived from them. No torch, no Avalanche."""
