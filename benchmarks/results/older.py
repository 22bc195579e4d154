"""Older records: their paths in names of data sets, brought to the names of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from benchmarks.results.places import hidden_names, panel_word
from benchmarks.results.record import Record
from benchmarks.results.splits import same_split

T = TypeVar("T")


def panel_words(config: Mapping[str, Any]) -> dict[str, str]:
    """Return today's word for each data set of the panel, by the word of an older record."""
    names = hidden_names(config)
    return {
        (name.partition(":")[2] or name).replace("/", "_"): panel_word(names.get(name, name))
        for name in config["panel"]["sets"]
    }


def by_word(values: Mapping[str, T], config: Mapping[str, Any]) -> dict[str, T]:
    """Return values of the panel's data sets by today's words."""
    words = panel_words(config)
    return {words.get(name, name): value for name, value in values.items()}


def comparable(first: Record, second: Record) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what two records of one run must both hold, without names that only one may hold.

    An older record has the names of its folders in the hash of its splits. If the other record
    shows that the images are the same, hash and names of the splits are left out.
    """
    contents = _content(first), _content(second)
    streams = [content["stream"] for content in contents]
    if None in streams or streams[0]["split_sha256"] == streams[1]["split_sha256"]:
        return contents
    if same_split(first, streams[1]["summary"]) or same_split(second, streams[0]["summary"]):
        for stream in streams:
            del stream["split_sha256"], stream["experiences"]
            stream["summary"] = {
                key: value
                for key, value in stream["summary"].items()
                if key not in ("split_sha256", "sets", "dropped")
            }
    return contents


def _content(record: Record) -> dict[str, Any]:
    content, config = record.reproducible(), record.config
    del content["run_id"]  # of the configuration, in which an older record keeps paths
    if config["backbone"].get("weights") == "random":
        del content["initial_tower_sha256"]  # drawn by code that differs between processors
    if content["panel"] is not None:
        content["panel"] = by_word(content["panel"], config)
    for moment in (content["outcome"] or {}).get("panel", ()):
        moment["drift"] = by_word(moment["drift"], config)
        for probe in (moment["linear_probe"], moment["zero_shot"] or {}):
            probe |= {split: by_word(values, config) for split, values in probe.items()}
    return content
