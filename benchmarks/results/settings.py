"""Records by setting: what a table has a row of, over seeds."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from benchmarks.methods import registry
from benchmarks.methods.registry import place_of
from benchmarks.results.identity import canonical, identifying
from benchmarks.results.record import Record
from benchmarks.results.scores import scores_of

Identity = tuple[str | None, tuple[tuple[str, str], ...], str | None]
_NAMED = ("method", "strength", "seed", "where")


@dataclass(frozen=True, eq=False)
class Row:
    """One setting of one method on one stream.

    Attributes:
        setting: SHA-256 of the configuration but for the seed and ``where``.
        config: of the first run, seed and ``where`` included.
        finished: runs, by seed.
        failed: runs without an outcome, by seed.
        chosen: whether validation data choose it among the method's settings.
    """

    setting: str
    config: dict[str, Any]
    finished: tuple[Record, ...]
    failed: tuple[Record, ...] = ()
    chosen: bool = False

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.config["method"])

    @property
    def strength(self) -> float | None:
        """Lambda, or whatever the method's knob is; None where there is none."""
        value = self.config["strength"]
        return None if value is None else float(value)

    @property
    def label(self) -> str:
        """Method and strength."""
        return self.method if self.strength is None else f"{self.method} {self.strength:g}"

    @cached_property
    def by_run(self) -> dict[str, dict[str, float | None]]:
        """All scores of each finished run, by its id; computed once."""
        return {r.run_id: scores_of(r) for r in self.finished}

    @cached_property
    def leaves(self) -> dict[str, str]:
        """Its configuration, see :func:`leaves`."""
        return leaves(self.config)

    @cached_property
    def comparison(self) -> str:
        """The comparison that it belongs to, see :func:`comparison_of`."""
        return comparison_of(self.config)

    @cached_property
    def identities(self) -> set[Identity]:
        """The identities of its finished runs, see :func:`identity_of`; one in a sound row."""
        return {identity_of(r) for r in self.finished}

    @cached_property
    def machines(self) -> set[tuple[Any, ...]]:
        """The machines of its finished runs, see :func:`hardware`."""
        return {hardware(r) for r in self.finished}

    def scores(self, name: str) -> dict[int, float]:
        """A score of :data:`~benchmarks.results.scores.SCORES` by seed, where it is known."""
        found = {r.config["seed"]: self.by_run[r.run_id][name] for r in self.finished}
        return {seed: value for seed, value in found.items() if value is not None}

    def mean(self, name: str) -> float | None:
        """Mean over seeds of a score; None where no run has it."""
        values = self.scores(name).values()
        return statistics.fmean(values) if values else None


def setting_of(config: dict[str, Any]) -> str:
    """SHA-256 of a configuration but for the seed and ``where``."""
    content = {k: v for k, v in identifying(config).items() if k != "seed"}
    return hashlib.sha256(canonical(content)).hexdigest()


def comparison_of(config: dict[str, Any]) -> str:
    """What runs must share to be compared: stream, backbone and panel, as canonical JSON."""
    panel = {name: config["panel"].get(name) for name in ("sets", "train", "test")}
    return canonical([config["stream"], config["backbone"], panel]).decode()


def identity_of(record: Record) -> Identity:
    """What a finished run saw and began with: split, panel images, and weights unless random."""
    assert record.stream is not None
    drawn = record.config["backbone"].get("weights") == "random"  # by the seed
    panel = tuple(sorted((name, data.sha256) for name, data in (record.panel or {}).items()))
    return record.stream.split_sha256, panel, None if drawn else record.initial_tower_sha256


def hardware(record: Record) -> tuple[Any, ...]:
    """What timings of a run depend on."""
    m = record.how.machine
    return m.processor, m.cores, m.threads, m.jobs, m.device, m.gpus, m.dtype, m.ranks


def usual_identity(rows: Iterable[Row]) -> Identity | None:
    """The identity that most runs have; None if none is finished."""
    found = [identity_of(r) for row in rows for r in row.finished]
    return max(sorted(set(found), key=repr), key=found.count) if found else None


def rows_of(records: Iterable[Record]) -> list[Row]:
    """A row a setting, in the order of methods and strengths, whatever that of the records."""
    groups: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (r.config["seed"], r.run_id)):
        groups.setdefault(setting_of(record.config), []).append(record)
    rows = []
    for setting, found in groups.items():
        finished = tuple(r for r in found if r.status == "finished")
        failed = tuple(r for r in found if r.status == "failed")
        rows.append(Row(setting, (finished or failed)[0].config, finished, failed))
    rows.sort(key=_place)
    comparisons: dict[str, list[Row]] = {}
    for row in rows:
        comparisons.setdefault(row.comparison, []).append(row)
    best = {setting for same in comparisons.values() for setting in _chosen(same)}
    return [replace(row, chosen=True) if row.setting in best else row for row in rows]


def _place(row: Row) -> tuple[Any, ...]:
    strength = -1.0 if row.strength is None else row.strength
    return row.comparison, place_of(row.method), row.method, strength, row.setting


def _chosen(rows: Sequence[Row]) -> set[str]:
    """Of each method of a comparison the setting that validation data choose; of a tie the weaker.

    Settings are compared on the seeds that all of the method's have, and on the same images
    alone; where there is no such seed, none is chosen.
    """
    usual = usual_identity(rows)
    best = set()
    for method in dict.fromkeys(row.method for row in rows):
        same = [
            (row, row.scores("score"))
            for row in rows
            if row.method == method and row.identities == {usual}
        ]
        same = [(row, scores) for row, scores in same if scores]
        shared = sorted(set.intersection(*(set(scores) for _, scores in same))) if same else []
        if not shared:
            continue
        weakens = method in registry.METHODS and registry.METHODS[method].weakens
        weakest_first = same[::-1] if weakens else same
        row, _ = max(weakest_first, key=lambda pair: statistics.fmean(pair[1][s] for s in shared))
        best.add(row.setting)
    return best


def leaves(config: dict[str, Any]) -> dict[str, str]:
    """What a configuration says beside method, strength, seed and ``where``, by dotted key."""
    found: dict[str, str] = {}

    def walk(part: dict[str, Any], path: str) -> None:
        for key, value in part.items():
            if not path and key in _NAMED:
                continue
            if isinstance(value, dict) and value:
                walk(value, f"{path}{key}.")
            else:
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                found[f"{path}{key}"] = text

    walk(identifying(config), "")
    return found


def distinctions(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """By setting: what tells rows of one method and strength apart, by dotted key."""
    found: dict[str, dict[str, str]] = {row.setting: {} for row in rows}
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.method, f"{row.strength}"), []).append(row)
    for same in groups.values():
        told = {row.setting: row.leaves for row in same}
        keys = sorted({key for values in told.values() for key in values})
        for key in keys:
            if len({values.get(key) for values in told.values()}) > 1:
                for setting, values in told.items():
                    found[setting][key] = values.get(key, "not set")
    return found
