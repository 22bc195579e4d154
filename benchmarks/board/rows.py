"""Records by setting: what a table has a row of, over seeds."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.methods import METHODS
from benchmarks.record import Record, canonical
from benchmarks.scores import SCORES

_ORDER = list(METHODS)
_NAMED = ("method", "strength", "seed", "where")
PLAIN = ("lp-ft", "finetune")
"""Plain fine-tuning; the first that is there is what the others are compared with."""


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

    def scores(self, name: str) -> dict[int, float]:
        """A score of :data:`~benchmarks.scores.SCORES` by seed, where it is known."""
        found = {r.config["seed"]: SCORES[name](r) for r in self.finished}
        return {seed: value for seed, value in found.items() if value is not None}

    def mean(self, name: str) -> float | None:
        """Mean over seeds of a score; None where no run has it."""
        values = self.scores(name).values()
        return statistics.fmean(values) if values else None


def setting_of(config: dict[str, Any]) -> str:
    """SHA-256 of a configuration but for the seed and ``where``."""
    content = {k: v for k, v in config.items() if k not in ("seed", "where")}
    return hashlib.sha256(canonical(content)).hexdigest()


def comparison_of(config: dict[str, Any]) -> str:
    """What runs must share to be compared: stream, backbone and panel, as canonical JSON."""
    panel = {name: config["panel"].get(name) for name in ("sets", "train", "test")}
    return canonical([config["stream"], config["backbone"], panel]).decode()


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
    best = _chosen(rows)
    return [replace(row, chosen=row.setting in best) for row in rows]


def _place(row: Row) -> tuple[Any, ...]:
    known = row.method in _ORDER
    place = _ORDER.index(row.method) if known else len(_ORDER)
    strength = -1.0 if row.strength is None else row.strength
    return comparison_of(row.config), place, row.method, strength, row.setting


def _chosen(rows: Sequence[Row]) -> set[str]:
    """Of each method the setting that validation data choose; of a tie the weaker one.

    Only settings with as many seeds as any other of the method are compared.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.scores("score"):
            groups.setdefault((comparison_of(row.config), row.method), []).append(row)
    best = set()
    for (_, method), same in groups.items():
        most = max(len(row.scores("score")) for row in same)
        whole = [row for row in same if len(row.scores("score")) == most]
        weakens = method in METHODS and METHODS[method].weakens
        weakest_first = whole[::-1] if weakens else whole
        best.add(max(weakest_first, key=lambda r: r.mean("score") or 0.0).setting)
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

    walk(config, "")
    return found


def distinctions(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """By setting: what tells rows of one method and strength apart, by dotted key."""
    found: dict[str, dict[str, str]] = {row.setting: {} for row in rows}
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.method, f"{row.strength}"), []).append(row)
    for same in groups.values():
        told = {row.setting: leaves(row.config) for row in same}
        keys = sorted({key for values in told.values() for key in values})
        for key in keys:
            if len({values.get(key) for values in told.values()}) > 1:
                for setting, values in told.items():
                    found[setting][key] = values.get(key, "not set")
    return found
