"""A cache of teacher features, keyed by a hash of the images' pixels."""

from avalanche_proxyfda.teacher.cache.settings import CacheChoice, CacheSettings
from avalanche_proxyfda.teacher.cache.teacher_cache import TeacherCache

__all__ = ["CacheChoice", "CacheSettings", "TeacherCache"]
