"""The acceptance of a machine with an accelerator: what works there, measured in minutes."""
