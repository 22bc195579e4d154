"""The board: turns records into tables, figures and a page."""
