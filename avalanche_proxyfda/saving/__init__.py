"""Parts of a checkpoint: plain data, files, models with growing heads, optimizers, metrics."""
