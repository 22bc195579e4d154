"""The warning that a data set is read without some of its files."""

from __future__ import annotations


class LeftOutWarning(UserWarning):
    """Files or classes of a data set are left out, or a class is never tested."""
