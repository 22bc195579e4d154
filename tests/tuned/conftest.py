"""The small CLIP of the tests of models."""

from tests.models.conftest import small_clip

__all__ = ["small_clip"]
