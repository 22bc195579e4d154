"""Names of image files."""

from __future__ import annotations

from pathlib import Path

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


def is_image_name(name: str) -> bool:
    """Return True if ``name`` has an image suffix and does not begin with a dot."""
    return Path(name).suffix.lower() in ENDINGS and not name.startswith(".")
