"""The recommended set of plugins: a structural and a point-wise term with one teacher."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from torch import nn

from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.plugins.base.auto_weight import Weight, check_weight
from avalanche_proxyfda.plugins.base.features import FeaturePlugin
from avalanche_proxyfda.plugins.base.lifecycle import TeacherChoice
from avalanche_proxyfda.plugins.ldifs import LDIFSPlugin
from avalanche_proxyfda.plugins.soft_fda import SoftFDAPlugin
from avalanche_proxyfda.teacher.cache import CacheChoice
from avalanche_proxyfda.teacher.cache.settings import CacheDtype


def recommended(
    model: nn.Module,
    structural: Weight = 1.0,
    pointwise: Weight = 100.0,
    *,
    teacher: TeacherChoice = "previous",
    scale: float | None = None,
    memory: int = 0,
    feature_module: str | None = None,
    taps: Sequence[str] | None = None,
    hard_class_batches: bool = False,
    seed: int = 0,
    teacher_cache: CacheChoice = "auto",
    cache_views: int | None = None,
    cache_bytes: int = 2**31,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_dtype: CacheDtype | None = None,
) -> list[FeaturePlugin]:
    """Return SoftFDA and LDIFS, which share one teacher (ours).

    A step costs one student forward and one teacher forward, which a cached teacher saves. The
    default strengths are those that validation data chose in the study of docs/results.md, on
    drawn images with a small model. docs/recommended.md says when not to take this set. Choose
    strengths on your own validation data.

    Args:
        model: the model that the strategy trains; it is not changed.
        structural: coefficient of SoftFDA; 0 leaves the term without effect, and ``"auto"`` sets it
            while it trains.
        pointwise: coefficient of LDIFS, likewise.
        teacher: ``"previous"``, ``"initial"`` or ``"averaged"``, of both plugins.
        scale: s of SoftFDA's softmax; None takes 10.
        memory: earlier samples among SoftFDA's columns.
        feature_module: the embedding that SoftFDA compares; None takes a preset.
        taps: the places that LDIFS compares. None takes a preset; training fails with a
            ValueError for a model that no preset knows.
        hard_class_batches: True trains on class-balanced batches, as FDA does. False leaves the
            strategy's batches as they are.
        seed: seed of SoftFDA's random streams.
        teacher_cache: ``"auto"``, ``"exact"``, ``"clean"`` or ``"off"``, for the shared teacher.
        cache_views: number of views that random transforms give of each sample; None leaves
            random transforms as they are.
        cache_bytes: upper limit of the size of the cache.
        cache_dir: folder of the cache's file; None caches in the device's memory.
        cache_dtype: ``"float16"`` halves the cache; None caches values as they are.

    Raises:
        TypeError: for an option of the wrong type, or a model that is no ``nn.Module``.
        ValueError: for an option out of range, or a model without a place that a plugin needs.

    Example:
        >>> from avalanche_proxyfda import recommended
        >>> from torchvision.models import resnet18
        >>> [type(plugin).__name__ for plugin in recommended(resnet18())]
        ['SoftFDAPlugin', 'LDIFSPlugin']
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    shared: dict[str, Any] = {
        "teacher": teacher,
        "teacher_cache": teacher_cache,
        "cache_views": cache_views,
        "cache_bytes": cache_bytes,
        "cache_dir": cache_dir,
        "cache_dtype": cache_dtype,
    }
    soft = SoftFDAPlugin(
        check_weight("structural", structural),
        scale=scale,
        memory=memory,
        feature_module=feature_module,
        hard_class_batches=hard_class_batches,
        seed=seed,
        **shared,
    )
    ldifs = LDIFSPlugin(check_weight("pointwise", pointwise), taps=taps, **shared)
    plugins: list[FeaturePlugin] = [soft, ldifs]
    for plugin in plugins:
        plugin.checked_places(unwrap(model))
    return plugins
