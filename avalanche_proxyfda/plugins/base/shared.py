"""Settings on which plugins of one strategy must agree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from avalanche_proxyfda.teacher.cache.settings import CacheSettings


class WithTeacher(Protocol):
    """A plugin with a teacher, as its settings are compared."""

    name: str
    choice: str
    cache: CacheSettings
    reads_training_batch: bool


def check_shared(plugin: WithTeacher, others: Iterable[WithTeacher]) -> None:
    """Refuse different settings of a shared teacher or of the views.

    A clean cache gives the samples of a batch numbers in place of their pixels, and a cache of
    another teacher would take these for its views. So ``"clean"`` stands beside no other cache.

    Args:
        plugin: a plugin with a teacher.
        others: the plugins with a teacher before it.

    Raises:
        ValueError: for plugins that do not agree.
    """
    for other in others:
        if other.choice == plugin.choice and other.cache != plugin.cache:
            raise ValueError(
                f"{other.name} and {plugin.name} share a teacher, but have different settings "
                f"of its cache: {other.cache} and {plugin.cache}; give both the same "
                "teacher_cache and cache_… arguments"
            )
        _check_clean(plugin, other)
        views = {other.cache.views, plugin.cache.views}
        if None not in views and len(views) > 1:
            raise ValueError(
                f"cache_views is {other.cache.views} for {other.name} and "
                f"{plugin.cache.views} for {plugin.name}, which train on the same views: "
                "give both the same"
            )


def _check_clean(plugin: WithTeacher, other: WithTeacher) -> None:
    """Refuse a clean cache beside the cache of another teacher."""
    pair = (other, plugin)
    choices = [each.cache.choice for each in pair]
    if (
        other.choice != plugin.choice
        and "clean" in choices
        and "off" not in choices
        and all(each.reads_training_batch for each in pair)
    ):
        clean, second = pair if choices[0] == "clean" else pair[::-1]
        raise ValueError(
            f"teacher_cache='clean' of {clean.name} stands beside the cache of another teacher, "
            f"that of {second.name}: pass teacher_cache='off' to {second.name}, or give both the "
            "same teacher"
        )
