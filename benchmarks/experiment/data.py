"""The stream and the panel of a run, built once a process."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from avalanche_proxyfda.models import Backbone
from benchmarks.config import Config, XTail, plain
from benchmarks.models.backbone import build_views
from benchmarks.results.identity import canonical
from benchmarks.streams.panel import PanelData, load_panel
from benchmarks.streams.registry import load_stream
from benchmarks.streams.stream import Stream
from benchmarks.streams.unlearnt import check_unlearnt

MOST_KEPT = 4
"""Streams that a process keeps, each with its panel."""


@dataclass(frozen=True, eq=False)
class Data:
    """The stream and the panel of a run.

    Attributes:
        stream: experiences to learn.
        panel: data sets to probe.
    """

    stream: Stream
    panel: list[PanelData]


_KEPT: OrderedDict[bytes, Data] = OrderedDict()


def load_data(config: Config, backbone: Backbone) -> Data:
    """Build the stream and the panel, or return those of an earlier call.

    The process keeps the data of the last :data:`MOST_KEPT` configurations. Runs that differ in
    method, strength, seed, head or training share data, except X-TAIL's, whose labels depend on
    the words of the head. Files that change meanwhile are not noticed.

    Args:
        config: names the stream, the panel, the views and where the data are.
        backbone: has the views of its library.

    Raises:
        FileNotFoundError, ImportError, ConnectionError, ValueError: when data are missing or
            refused.
    """
    key = _key(config)
    if key not in _KEPT:
        views = build_views(config, backbone)
        stream, panel = load_stream(config, views), load_panel(config, views)
        check_unlearnt(stream, panel)
        _KEPT[key] = Data(stream, panel)
        if len(_KEPT) > MOST_KEPT:
            _KEPT.popitem(last=False)
    _KEPT.move_to_end(key)
    return _KEPT[key]


def _key(config: Config) -> bytes:
    """Everything of a configuration that its data depend on, which the trained towers are not.

    The head's words for X-TAIL's classes count too: classes with the same words are one.
    """
    content, where = plain(config), config.where
    backbone = {key: value for key, value in content["backbone"].items() if key != "train"}
    parts = [content["stream"], backbone, content["panel"]]
    if isinstance(config.stream, XTail):
        parts += [content["head"]["prompts"], content["head"]["words"]]
    place = str(config.at("").absolute())
    train = config.train
    shown = [train.augment, train.pipeline, where.pixel_dir, where.pixel_gb]
    return canonical([*parts, *shown, place, where.url, where.sha256, where.md5])
