"""Who makes a mini-batch: samplers, loaders, labels, views."""
