"""The options of the teacher's cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, get_args

from avalanche_proxyfda._checks import check_count

CacheChoice = Literal["auto", "off", "exact", "clean"]
CacheDtype = Literal["float16"]


@dataclass(frozen=True)
class CacheSettings:
    """The cache options of :class:`~avalanche_proxyfda.plugins.base.features.FeaturePlugin`.

    Attributes:
        choice: the plugin's ``teacher_cache``.
        views: the plugin's ``cache_views``.
        bytes: the plugin's ``cache_bytes``.
        dir: the plugin's ``cache_dir``.
        dtype: the plugin's ``cache_dtype``.

    Raises:
        TypeError, ValueError: for a value of the wrong type or out of range.
    """

    choice: CacheChoice = "auto"
    views: int | None = None
    bytes: int = 2**31
    dir: str | os.PathLike[str] | None = None
    dtype: CacheDtype | None = None

    def __post_init__(self) -> None:
        if self.choice not in get_args(CacheChoice):
            raise ValueError(
                f"teacher_cache={self.choice!r} is unknown; choose one of {get_args(CacheChoice)}"
            )
        if self.views is not None:
            check_count("cache_views", self.views, 1)
        check_count("cache_bytes", self.bytes, 1)
        if self.dir is not None and not isinstance(self.dir, (str, os.PathLike)):
            raise TypeError(
                f"cache_dir={self.dir!r} must be a path, or None to cache in the device's memory"
            )
        if self.dtype not in (None, *get_args(CacheDtype)):
            raise ValueError(
                f"cache_dtype={self.dtype!r} must be 'float16', or None to cache values unrounded"
            )
