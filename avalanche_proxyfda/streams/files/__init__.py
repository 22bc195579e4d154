"""Data sets, images, packs and archives on disk."""
