"""UMAP, which is an option: imported where it is asked for."""

from __future__ import annotations

from typing import Any


def umap_library() -> Any:
    """Import UMAP.

    Raises:
        ImportError: if UMAP is not installed; the message says how to install it.
    """
    try:
        import umap
    except ImportError as error:
        raise ImportError("method='umap' is not installed: pip install umap-learn") from error
    return umap
