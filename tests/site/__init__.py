"""The docs site: its reference, its links, its pages and their prose."""
