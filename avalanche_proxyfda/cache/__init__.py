"""A teacher's answers, kept by the very pixels that they were given for."""

from avalanche_proxyfda.cache.settings import CacheChoice, CacheSettings
from avalanche_proxyfda.cache.teacher_cache import TeacherCache

__all__ = ["CacheChoice", "CacheSettings", "TeacherCache"]
