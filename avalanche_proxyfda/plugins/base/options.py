"""Keyword arguments that plugins with a teacher share, as types."""

from __future__ import annotations

import os
from typing import TypedDict

from avalanche_proxyfda.data.reference import ReferenceData
from avalanche_proxyfda.plugins.base.auto_weight import AutoWeight, Weight
from avalanche_proxyfda.plugins.base.lifecycle import TeacherChoice
from avalanche_proxyfda.teacher.cache import CacheChoice
from avalanche_proxyfda.teacher.cache.settings import CacheDtype


class TeacherOptions(TypedDict, total=False):
    """Keyword arguments of every plugin with a teacher; see ``FeaturePlugin``."""

    teacher: TeacherChoice
    teacher_decay: float | None
    name: str | None
    teacher_cache: CacheChoice
    cache_views: int | None
    cache_bytes: int
    cache_dir: str | os.PathLike[str] | None
    cache_dtype: CacheDtype | None
    reference_data: ReferenceData | None
    reference_weight: Weight | None
    auto_weight: AutoWeight | None


class FeatureOptions(TeacherOptions, total=False):
    """Keyword arguments of every plugin with a teacher and one place to read."""

    feature_module: str | None
