"""Where features are in a model, and how they are read."""
