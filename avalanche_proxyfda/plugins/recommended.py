"""The recommended set of plugins: a structural term, and an average of weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from torch import nn

from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.plugins.base.auto_weight import Weight, check_weight
from avalanche_proxyfda.plugins.base.features import FeaturePlugin
from avalanche_proxyfda.plugins.base.lifecycle import ReferenceChoice, TeacherChoice
from avalanche_proxyfda.plugins.ldifs import LDIFSPlugin
from avalanche_proxyfda.plugins.soft_fda import SoftFDAPlugin
from avalanche_proxyfda.plugins.wise_ft import WiSEFTPlugin
from avalanche_proxyfda.teacher.cache import CacheChoice
from avalanche_proxyfda.teacher.cache.settings import CacheDtype


def recommended(
    model: nn.Module,
    structural: Weight = 1.0,
    alpha: float | None = 0.5,
    *,
    pointwise: Weight | None = None,
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
) -> list[FeaturePlugin | WiSEFTPlugin]:
    """Return SoftFDA and WiSE-FT, a set of ours, and LDIFS on request.

    SoftFDA keeps the neighbours of the teacher's features while the model trains, as PKT does
    (Passalis and Tefas, ECCV 2018). WiSE-FT averages the weights before and after each experience
    (Wortsman et al., CVPR 2022). docs/results.md has the studies of the set, and
    docs/recommended.md says when to take something else. A step costs one student forward and
    one teacher forward, which a cached teacher saves.

    Args:
        model: the model that the strategy trains; it is not changed.
        structural: coefficient of SoftFDA; 0 leaves the term without effect, and ``"auto"`` sets it
            while it trains.
        alpha: share of the trained weights in WiSE-FT's average, in [0, 1]; None leaves WiSE-FT
            out. Its anchors are the weights before the stream if ``teacher="initial"``, and those
            before the experience otherwise.
        pointwise: coefficient of LDIFS, or ``"auto"``; None leaves LDIFS out.
        teacher: ``"previous"``, ``"initial"`` or ``"averaged"``, of SoftFDA and LDIFS.
        scale: s of SoftFDA's softmax; None takes 10.
        memory: earlier samples among SoftFDA's columns.
        feature_module: the embedding that SoftFDA compares, and up to which WiSE-FT averages;
            None takes a preset.
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
        ValueError: for an option out of range, ``taps`` without LDIFS, or a model without a
            place that a plugin needs.

    Example:
        >>> from avalanche_proxyfda import recommended
        >>> from torchvision.models import resnet18
        >>> [type(plugin).__name__ for plugin in recommended(resnet18())]
        ['SoftFDAPlugin', 'WiSEFTPlugin']
        >>> terms = recommended(resnet18(), alpha=None, pointwise=100.0)
        >>> [type(plugin).__name__ for plugin in terms]
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
    terms: list[FeaturePlugin] = [soft]
    if pointwise is not None:
        terms.append(LDIFSPlugin(check_weight("pointwise", pointwise), taps=taps, **shared))
    elif taps is not None:
        raise ValueError(
            f"taps={taps!r} are places of LDIFS, and pointwise=None leaves LDIFS out: give one of "
            "the two"
        )
    for term in terms:
        term.checked_places(unwrap(model))
    if alpha is None:
        return [*terms]
    anchor: ReferenceChoice = "initial" if teacher == "initial" else "previous"
    return [*terms, WiSEFTPlugin(alpha, feature_module=feature_module, anchor=anchor)]
