"""Records grouped by setting: one row of a table, over seeds."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from benchmarks.methods.combined import (
    Companions,
    combined_name,
    combined_strength,
    force_of,
    parts_of,
)
from benchmarks.methods.registry import Strength, place_of
from benchmarks.results.groups import joined
from benchmarks.results.identity import canonical, identifying, without_defaults
from benchmarks.results.places import title_of
from benchmarks.results.record import Record
from benchmarks.results.scores import scores_of

Identity = tuple[str | None, tuple[str, ...], str | None]
_NAMED = ("method", "strength", "companions", "seed", "where")


@dataclass(frozen=True, eq=False)
class Row:
    """One setting of one method on one stream.

    Attributes:
        setting: SHA-256 of the configuration without seed and ``where``.
        config: configuration of the first run, with seed and ``where``.
        finished: finished runs, in the order of seeds.
        failed: runs without an outcome, in the order of seeds.
        chosen: True if validation data choose this setting among the method's settings.
    """

    setting: str
    config: dict[str, Any]
    finished: tuple[Record, ...]
    failed: tuple[Record, ...] = ()
    chosen: bool = False

    @property
    def method(self) -> str:
        """Name of the method, or of the combination of methods."""
        return combined_name(str(self.config["method"]), self.companions)

    @property
    def companions(self) -> Companions:
        """Strengths of the methods whose terms were added, by method."""
        companions: Companions = self.config.get("companions", {})
        return companions

    @property
    def strength(self) -> Strength | None:
        """Value of the method's knob, such as lambda; None for a method without a knob."""
        value = self.config["strength"]
        return value if value is None or value == "auto" else float(value)

    @property
    def label(self) -> str:
        """Method and strength."""
        return " ".join([self.method, self.strength_text]).rstrip()

    @property
    def strength_text(self) -> str:
        """The strengths to read; empty for a method without one."""
        return combined_strength(self.strength, self.companions)

    @cached_property
    def by_run(self) -> dict[str, dict[str, float | None]]:
        """All scores of each finished run, by its id; computed once."""
        return {r.run_id: scores_of(r) for r in self.finished}

    @cached_property
    def leaves(self) -> dict[str, str]:
        """The configuration as dotted keys, see :func:`leaves`."""
        return leaves(self.config)

    @cached_property
    def comparison(self) -> str:
        """The comparison of the row, see :func:`comparison_of`."""
        return comparison_of(self.config)

    @cached_property
    def compared_by(self) -> frozenset[str]:
        """Keys of the row's comparison: rows that share a key are compared."""
        return frozenset({self.comparison, *map(content_of, self.finished)})

    @cached_property
    def identities(self) -> set[Identity]:
        """Identities of the finished runs, see :func:`identity_of`; a sound row has one."""
        return {identity_of(r) for r in self.finished}

    @cached_property
    def machines(self) -> set[tuple[Any, ...]]:
        """Machines of the finished runs, see :func:`hardware`."""
        return {hardware(r) for r in self.finished}

    def scores(self, name: str) -> dict[int, float]:
        """Return a score of :data:`~benchmarks.results.scores.SCORES` by seed, where known."""
        scores = {r.config["seed"]: self.by_run[r.run_id][name] for r in self.finished}
        return {seed: value for seed, value in scores.items() if value is not None}

    def mean(self, name: str, seeds: Collection[int] | None = None) -> float | None:
        """Return the mean of a score; None if no run has the score.

        Args:
            name: a score of :data:`~benchmarks.results.scores.SCORES`.
            seeds: the seeds that count; None takes all.
        """
        scores = self.scores(name)
        values = [value for seed, value in scores.items() if seeds is None or seed in seeds]
        return statistics.fmean(values) if values else None

    @property
    def force(self) -> tuple[float, ...]:
        """Order of the settings of one method, the weakest first; see :func:`force_of`."""
        return force_of(str(self.config["method"]), self.strength, self.companions)


def setting_of(config: dict[str, Any]) -> str:
    """Return the SHA-256 of a configuration without seed and ``where``."""
    content = {k: v for k, v in identifying(config).items() if k != "seed"}
    return hashlib.sha256(canonical(content)).hexdigest()


def comparison_of(config: dict[str, Any]) -> str:
    """Return stream, backbone and panel by their names, as canonical JSON.

    Runs with the same names are comparable. So are runs with the same :func:`content_of`.
    """
    shown = identifying(config)
    panel = {name: shown["panel"].get(name) for name in ("sets", "train", "test")}
    return canonical([shown["stream"], shown["backbone"], panel]).decode()


def content_of(record: Record) -> str:
    """Return stream, backbone and panel of a finished run by their contents, as canonical JSON.

    The images of a folder, of ImageNet-R and of the panel, and weights in a file, stand for
    their places.
    """
    assert record.stream is not None
    config = without_defaults(record.config)
    stream, backbone = dict(config["stream"]), dict(config["backbone"])
    panel = {name: config["panel"].get(name) for name in ("train", "test")}
    listed, names = record.stream.summary.get("sets", ()), stream.get("sets", ())
    hashes = [about.get("sha256") for about in listed]
    if stream.get("order"):  # the record lists the sets in the order of learning
        by_name = {about["name"]: about.get("sha256") for about in listed}
        hashes = [by_name.get(name) for name in names]
    if hashes and len(hashes) == len(names):
        stream["sets"] = [
            sha256 if sha256 and name.startswith("folder:") else title_of(name)
            for name, sha256 in zip(names, hashes, strict=True)
        ]
    for place in ("root", "lists"):
        if stream.pop(place, None):
            stream["split_sha256"] = record.stream.split_sha256
    if backbone.get("weights") not in (None, "random"):
        backbone["weights"] = record.initial_tower_sha256
    sets = sorted(data.sha256 for data in (record.panel or {}).values())
    return canonical([stream, backbone, {"sets": sets, **panel}]).decode()


def identity_of(record: Record) -> Identity:
    """Return split, panel images and initial weights of a finished run.

    The weights are None if they are random, since the seed then decides them.
    """
    assert record.stream is not None
    drawn = record.config["backbone"].get("weights") == "random"
    panel = tuple(sorted(data.sha256 for data in (record.panel or {}).values()))
    return record.stream.split_sha256, panel, None if drawn else record.initial_tower_sha256


def hardware(record: Record) -> tuple[Any, ...]:
    """Return the parts of a run's machine that its timings depend on."""
    m = record.how.machine
    cpu = None if m.cpu is None else repr(m.cpu)
    return m.processor, cpu, m.cores, m.threads, m.jobs, m.device, m.gpus, m.dtype, m.ranks


def usual_identity(rows: Iterable[Row]) -> Identity | None:
    """Return the identity that most runs have; None if no run is finished."""
    identities = [identity_of(r) for row in rows for r in row.finished]
    return max(sorted(set(identities), key=repr), key=identities.count) if identities else None


def rows_of(records: Iterable[Record]) -> list[Row]:
    """Return one row a setting, in the order of methods and strengths."""
    groups: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (r.config["seed"], r.run_id)):
        groups.setdefault(setting_of(record.config), []).append(record)
    rows = []
    for setting, runs in groups.items():
        finished = tuple(r for r in runs if r.status == "finished")
        failed = tuple(r for r in runs if r.status == "failed")
        rows.append(Row(setting, (finished or failed)[0].config, finished, failed))
    groups_of_rows = comparisons_of(rows)
    best = {setting for same in groups_of_rows for setting in _chosen(same)}
    return [
        replace(row, chosen=True) if row.setting in best else row
        for same in groups_of_rows
        for row in same
    ]


def comparisons_of(rows: Iterable[Row]) -> list[list[Row]]:
    """Return the rows of each comparison, in the order of methods and strengths."""
    ordered = sorted(rows, key=lambda row: (row.comparison, _place(row)))
    return [sorted(same, key=_place) for same in joined(ordered, lambda row: row.compared_by)]


def _place(row: Row) -> tuple[Any, ...]:
    strength = -1.0 if row.strength is None else row.strength
    strength = math.inf if isinstance(strength, str) else strength  # auto comes last
    added = row.force[1:]
    return place_of(parts_of(row.method)[0]), row.method, strength, added, row.setting


def _chosen(rows: Sequence[Row]) -> set[str]:
    """Return the setting of each method that validation data choose; the weaker wins a tie.

    Settings of a method are compared on the seeds that all of them have, and on the same images.
    Without such a seed, no setting of the method is chosen.
    """
    usual = usual_identity(rows)
    best = set()
    for method in dict.fromkeys(row.method for row in rows):
        same = [row for row in rows if row.method == method and row.identities == {usual}]
        means = means_on_shared_seeds(same)
        if means:
            weakest_first = sorted(means, key=lambda row: row.force)
            best.add(max(weakest_first, key=means.__getitem__).setting)
    return best


def shared_seeds(rows: Iterable[Row], name: str = "score") -> set[int]:
    """Return the seeds that all rows with a score have; empty without such a seed."""
    known = [set(scores) for row in rows if (scores := row.scores(name))]
    return set.intersection(*known) if known else set()


def means_on_shared_seeds(rows: Sequence[Row], name: str = "score") -> dict[Row, float]:
    """Return a score's mean for each row that has it, on the seeds that all these rows have.

    The result is empty without such a seed.

    Args:
        rows: rows of one comparison.
        name: a score of :data:`~benchmarks.results.scores.SCORES`.
    """
    seeds = shared_seeds(rows, name)
    means = ((row, row.mean(name, seeds)) for row in rows)
    return {row: mean for row, mean in means if mean is not None}


def leaves(config: dict[str, Any]) -> dict[str, str]:
    """Return a configuration's values by dotted key, as text.

    Methods, strengths, seed and ``where`` are left out.
    """
    texts: dict[str, str] = {}

    def walk(part: dict[str, Any], path: str) -> None:
        for key, value in part.items():
            if not path and key in _NAMED:
                continue
            if isinstance(value, dict) and value:
                walk(value, f"{path}{key}.")
            else:
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                texts[f"{path}{key}"] = text

    walk(identifying(config), "")
    return texts


def distinctions(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """Return by setting the values in which rows of one method differ, beside the strength."""
    differing: dict[str, dict[str, str]] = {row.setting: {} for row in rows}
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.method, []).append(row)
    for same in groups.values():
        by_setting = {row.setting: row.leaves for row in same}
        keys = sorted({key for values in by_setting.values() for key in values})
        for key in keys:
            if len({values.get(key) for values in by_setting.values()}) > 1:
                for setting, values in by_setting.items():
                    differing[setting][key] = values.get(key, "not set")
    return differing
