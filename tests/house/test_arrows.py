"""Who may import whom: the arrows of the project point down, and nothing is hidden."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.house.imports import ROOT, Import, circles, imports, modules, room

P, B = "avalanche_proxyfda", "benchmarks"

FLOORS = (
    (P,),
    (f"{P}.checkpoint",),
    (f"{P}.plugins",),
    (f"{P}.metrics",),
    (f"{P}.teacher",),
    (f"{P}.pixels",),
    (f"{P}.data", f"{P}.weights", f"{P}.tuned"),
    (
        f"{P}.features",
        f"{P}.models",
        f"{P}.losses",
        f"{P}.streams",
        f"{P}.strategies",
        f"{P}.distributed",
    ),
    (f"{P}._",),
)
"""Rooms of the package, from the top: a room imports rooms of lower floors only."""

BENCH_FLOORS = (
    (f"{B}.__main__",),
    (f"{B}.commands",),
    (f"{B}.accept",),
    (f"{B}.execution", f"{B}.reproduce", f"{B}.perf", f"{B}.board"),
    (f"{B}.experiment",),
    (f"{B}.models",),
    (f"{B}.streams",),
    (f"{B}.config",),
    (f"{B}.results",),
    (f"{B}.methods",),
    (B, f"{B}._"),
)
"""Rooms of the benchmarks, likewise. ``methods`` is treated apart: its two modules stand on two
floors (``registry`` at the bottom, ``plugins`` beside ``streams``)."""


def _floor(name: str) -> int | None:
    if name == f"{B}.methods.plugins":
        return next(k for k, rooms in enumerate(BENCH_FLOORS) if f"{B}.streams" in rooms)
    for floors in (FLOORS, BENCH_FLOORS):
        for number, rooms in enumerate(floors):
            if room(name) in rooms:
                return number
    return None


def _all() -> list[Import]:
    return [each for each in imports() if each.importer != each.imported]


def test_every_module_is_in_a_room_of_the_plan() -> None:
    assert len(modules()) > 100
    assert [name for name in modules() if _floor(name) is None] == []


@pytest.mark.parametrize("package", [P, B])
def test_no_import_points_up_or_sideways(package: str) -> None:
    wrong = []
    for each in _all():
        above, below = room(each.importer), room(each.imported)
        if not each.importer.startswith(package) or not each.imported.startswith(package):
            continue
        if above == below and f"{B}.methods" != above:
            continue
        start, end = _floor(each.importer), _floor(each.imported)
        assert start is not None
        assert end is not None
        if end < start or (end == start and above != below):
            wrong.append(str(each))
    assert wrong == []


def test_the_package_imports_no_benchmark() -> None:
    assert [str(e) for e in _all() if e.importer.startswith(P) and e.imported.startswith(B)] == []


def test_the_board_imports_results_and_the_registry_alone() -> None:
    allowed = {f"{B}.board", f"{B}.results", f"{B}.methods", f"{P}._"}  # the last writes files
    own = [e for e in _all() if room(e.importer) == f"{B}.board"]
    assert own
    assert [str(e) for e in own if room(e.imported) not in allowed] == []
    assert [str(e) for e in own if e.imported == f"{B}.methods.plugins"] == []


@pytest.mark.parametrize(
    ("above", "below"),
    [
        (f"{P}.teacher.teacher", f"{P}.teacher.cache"),
        (f"{P}.data", f"{P}.teacher"),
        (f"{B}.experiment", f"{B}.execution"),
    ],
)
def test_arrows_that_must_not_be(above: str, below: str) -> None:
    wrong = [
        str(e)
        for e in _all()
        if f"{e.importer}.".startswith(f"{above}.") and f"{e.imported}.".startswith(f"{below}.")
    ]
    assert wrong == []


def test_no_circle() -> None:
    assert circles() == []


def test_no_project_import_inside_a_function_or_under_a_condition() -> None:
    assert [str(each) for each in imports() if not each.at_top and not each.typing_only] == []


def test_imports_for_types_alone_are_rare() -> None:
    hidden = [str(each) for each in imports() if each.typing_only]
    assert hidden == []  # a type that is needed can be imported where the arrows are right


HEAVY = ("torch", "avalanche", "open_clip", "torchvision")


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("benchmarks.methods.registry", (*HEAVY, "pydantic", "numpy")),
        ("benchmarks.results", HEAVY),
        ("benchmarks.results.files", HEAVY),
        ("benchmarks.results.scores", HEAVY),
        ("benchmarks.config", HEAVY),
        ("benchmarks.config.recipes", HEAVY),
        ("benchmarks.board.write", HEAVY),
        ("avalanche_proxyfda", HEAVY),
        ("avalanche_proxyfda.losses.fda", ("avalanche", "open_clip", "torchvision")),
        ("avalanche_proxyfda.data.sampler", ("avalanche", "open_clip", "torchvision")),
    ],
)
def test_what_an_import_loads(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"
