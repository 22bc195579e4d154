"""Descriptions of the schema's keys: help text, limits, and the age of a key."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def key(about: str, *, since_records: bool = True, **limits: Any) -> Any:
    """Return the description of a key, for ``Annotated``.

    Args:
        about: text of ``--help``.
        since_records: False for a key that is younger than the first records. A run's identity
            leaves out such a key while the key has its default; see
            :data:`benchmarks.results.identity.LATER_KEYS`.
        limits: pydantic's bounds of the value, such as ``ge=0``.
    """
    return Field(
        description=about,
        json_schema_extra=None if since_records else {"since_records": False},
        **limits,
    )
