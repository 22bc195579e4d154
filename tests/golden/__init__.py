"""The numbers of every method in a toy run, and the guard that keeps them to a version."""
