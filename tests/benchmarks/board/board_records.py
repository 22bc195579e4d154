"""A board's worth of records made by hand: paths, seeds, and everything that can be wrong."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.board.model import Board, Entry, make_board
from benchmarks.board.write import current_versions
from benchmarks.config import Config
from benchmarks.methods.registry import MARKERS, METHODS, Method
from benchmarks.results.files import collect, write_record
from benchmarks.results.identity import run_id_of
from benchmarks.results.record import Record, Stream
from tests.benchmarks.records import failed, finished, recipe, sha

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=alert(1)>"
PATHS: dict[str, dict[float | None, tuple[float, float]]] = {
    # learning and keeping by strength
    "lp-ft": {None: (0.66, -0.035)},
    "l2sp": {0.1: (0.665, -0.03), 1.0: (0.66, -0.014), 10.0: (0.65, -0.004)},
    "ldifs": {100.0: (0.676, -0.02), 1000.0: (0.678, -0.002)},
    "fda": {0.3: (0.671, -0.034), 3.0: (0.58, -0.06)},
}


def now(record: Record) -> Record:
    """Return ``record`` with the present version of its method."""
    code = replace(record.how.code, method_version=current_versions()[record.config["method"]])
    return replace(record, how=replace(record.how, code=code))


def run_of(config: Config, learnt: float, kept: float, **options: Any) -> Record:
    """A run whose seed moves every figure a little."""
    lot = random.Random(f"{config.method} {config.strength} {config.seed}")
    own = lot.gauss(0, 0.004)
    matrix = ((None, None), (0.92, None), (learnt + 0.1 + own, learnt - 0.1 + own))
    change = kept + lot.gauss(0, 0.003)
    panel = {"shapes": (0.81, 0.81 + change), "colours": (0.86, 0.86 + change)}
    validation = (learnt + own, change)
    step = 0.2 * (1.3 if config.method in ("ldifs", "fda") else 1) * lot.uniform(0.97, 1.03)
    return now(finished(config, matrix, panel, validation, step, **options))


def paths(seeds: int = 3, **settings: Any) -> list[Record]:
    """Every setting with every seed."""
    return [
        run_of(recipe(method, strength=strength, seed=seed, **settings), *figures)
        for method, points in PATHS.items()
        for strength, figures in points.items()
        for seed in range(seeds)
    ]


def troubled(folder: Path) -> Path:
    """Records of two backbones, with failures, odd rows, files that are none, hostile names."""
    records = paths()
    for method, strength in (("proxy-fda", 0.3), ("rift", 1.0)):
        records.append(run_of(recipe(method, strength=strength, seed=0), 0.67, -0.03))
    records.append(failed(recipe("proxy-fda", strength=0.3, seed=1), f"ValueError: {HOSTILE}"))
    odd = [run_of(recipe("lwf", strength=10.0, seed=s), 0.66, -0.02) for s in range(3)]
    other = replace(odd[0].stream, split_sha256=sha("another"))  # type: ignore[type-var]
    records += [replace(odd[0], stream=other), *odd[1:]]
    for seed in range(3):
        made = run_of(recipe("rkd", strength=10.0, seed=seed), 0.665, -0.01)
        code = replace(made.how.code, method_version=made.how.code.version + 1, changed=True)
        machine = replace(made.how.machine, processor=f"processor {seed % 2}")
        records.append(replace(made, how=replace(made.how, code=code, machine=machine)))
    for record in paths(2, backbone__options={"note": HOSTILE}):
        assert isinstance(record.stream, Stream)
        named = replace(record.stream, name=HOSTILE, experiences=(HOSTILE, "b"))
        records.append(replace(record, stream=named))
    for record in records:
        write_record(folder / f"{record.label}.json", record)
    (folder / "cut.json").write_text('{"schema_version": 1, "ru', encoding="utf-8")
    (folder / f"{HOSTILE.replace('/', '-')}.json").write_text("[]", encoding="utf-8")
    return folder


def board(records: list[Record], folder: Path, seeds: int | None = None) -> Board:
    for record in records:
        write_record(folder / f"{record.label}.json", record)
    return make_board(collect([folder]), current_versions(), seeds)


def many_methods() -> dict[str, Method]:
    """The registry, filled up to 25 methods, each with colours of its own."""
    more = {
        f"toy-{k}": Method(
            about=f"toy {k}",
            version=1,
            colour=f"#{0x203040 + 0x080503 * k:06x}",
            dark_colour=f"#{0xC0D0E0 + 0x010203 * k:06x}",
            marker=MARKERS[k],
        )
        for k in range(25 - len(METHODS))
    }
    return {**METHODS, **more}


def of_method(record: Record, method: str) -> Record:
    """``record`` under the name of another method."""
    config = {**record.config, "method": method}
    return replace(record, run_id=run_id_of(config), how=replace(record.how, config=config))


def records_of(methods: Iterable[str], seeds: int = 2) -> list[Record]:
    """Runs of each method, in one setting with ``seeds`` seeds."""
    runs = [run_of(recipe("lp-ft", seed=s), 0.66, -0.03) for s in range(seeds)]
    return [of_method(run, name) for name in methods for run in runs]


def entries(made: Board) -> dict[str, Entry]:
    """Return the entries of all comparisons by label."""
    return {entry.row.label: entry for c in made.comparisons for entry in c.entries}
