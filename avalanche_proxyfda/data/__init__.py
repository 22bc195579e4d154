"""Parts of a mini-batch: samplers, loaders, labels and views."""
