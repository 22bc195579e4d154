"""How the schema describes a key: the text of ``--help``, the limits, and when the key came."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid")


def key(about: str, *, since_records: bool = True, **limits: Any) -> Any:
    """The description of a key, for ``Annotated``.

    Args:
        about: text of ``--help``.
        since_records: False for a key that is younger than the first records. Such a key does
            not count in a run's identity while it has its default; see
            :data:`benchmarks.results.identity.LATER_KEYS`.
        limits: pydantic's bounds of the value, as ``ge=0``.
    """
    return Field(
        description=about,
        json_schema_extra=None if since_records else {"since_records": False},
        **limits,
    )
