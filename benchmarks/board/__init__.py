"""The board: records in, tables, figures and a page out."""
