"""The shape of the project: modules, imports, sizes."""
