"""Class words and prompts of each data set, for zero-shot heads."""
