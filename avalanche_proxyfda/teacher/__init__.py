"""The frozen teacher, and the cache of its values."""

from avalanche_proxyfda.teacher.cached import CachedTeacher
from avalanche_proxyfda.teacher.snapshot import frozen_copy
from avalanche_proxyfda.teacher.teacher import FeatureTeacher

__all__ = ["CachedTeacher", "FeatureTeacher", "frozen_copy"]
