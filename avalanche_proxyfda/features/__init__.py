"""Places of features in a model, and readers of the features."""
