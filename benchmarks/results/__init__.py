"""Records of runs, and the numbers derived from them; imports neither torch nor Avalanche."""
