"""The recipes of ``CONTRIBUTING.md``: four additions made as it says, and used."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.house.additions import contributions
from tests.house.imports import ROOT
from tests.house.test_arrows import BENCH_FLOORS, FLOORS

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
COPIED = ("avalanche_proxyfda", "benchmarks", "tests", "docs/methods", "docs/metrics.md")
GOLDEN = "tests/golden/losses.json"


@dataclass(frozen=True)
class Recipe:
    """A recipe of the guide.

    Attributes:
        most: largest number of files.
        make: makes the addition in a copy of the project.
        name: name of the addition; it replaces NAME in the paths of the guide.
        like: an existing thing of the kind.
    """

    most: int
    make: Callable[[Path], None]
    name: str = ""
    like: str = ""


RECIPES = {
    "method": Recipe(7, contributions.add_method, "center", "rkd"),
    "drift measure": Recipe(4, contributions.add_measure),
    "kind of stream": Recipe(2, contributions.add_stream, "mirrored", "concepts"),
    "board column": Recipe(2, contributions.add_column),
}


def hashes(tree: Path) -> dict[str, str]:
    """SHA-256 of each file that is no cache of Python, by path."""
    return {
        path.relative_to(tree).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tree.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.is_relative_to(tree / "out")
    }


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Paths of files that are new, gone or different."""
    return {path for path in {*before, *after} if before.get(path) != after.get(path)}


@dataclass(frozen=True)
class Extended:
    """A copy of the project with the four additions, and what a process made with them."""

    tree: Path
    files: dict[str, set[str]]
    generated: set[str]
    facts: dict[str, Any]


def extend(tree: Path) -> Extended:
    """Copy the project to ``tree``, make the four additions there, and use them in a process."""
    for name in COPIED:
        source, target = ROOT / name, tree / name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    shutil.copy2(ROOT / "pyproject.toml", tree)
    files, last = {}, hashes(tree)
    for kind, recipe in RECIPES.items():
        recipe.make(tree)
        now = hashes(tree)
        files[kind], last = changed(last, now), now
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.house.additions.use", str(tree / "out")],
        cwd=tree,
        env={**kept, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    facts = json.loads((tree / "out" / "facts.json").read_text(encoding="utf-8"))
    assert facts["tests"] == 0, done.stdout[-8000:]
    made = {name for name in changed(last, hashes(tree)) if not name.startswith(".")}
    return Extended(tree, files, made, facts)


# ---- the recipes ----------------------------------------------------------------------------


def numbered_paths(section: str) -> list[str]:
    """The path that each numbered line of a recipe begins with."""
    return re.findall(r"^\d+\. `([^`]+)`", section, re.MULTILINE)


def sections() -> dict[str, tuple[int, str]]:
    """The number of files and the text of each recipe of the guide, by kind."""
    parts = re.split(r"^## ", GUIDE, flags=re.MULTILINE)
    found = {}
    for part in parts:
        heading = re.match(r"A (.+): (?:at most )?(\d+) files\n", part)
        if heading:
            found[heading[1]] = int(heading[2]), part
    return found


def test_the_guide_has_the_four_recipes_and_their_counts() -> None:
    counts = {kind: count for kind, (count, _) in sections().items()}
    assert counts == {kind: recipe.most for kind, recipe in RECIPES.items()}


def test_the_four_recipes_are_followed_and_what_they_add_works(tmp_path: Path) -> None:
    """One test, so that the project is copied and used once, whatever workers there are."""
    extended = extend(tmp_path / "copy")
    for kind in RECIPES:
        check_files(kind, extended)
    check_generated(extended)
    check_copy(extended)
    check_record(extended)
    check_board(extended)
    check_incomplete_entries(extended, tmp_path)


def check_files(kind: str, extended: Extended) -> None:
    """An addition changes the files that its recipe names, and no other."""
    recipe, (_, section) = RECIPES[kind], sections()[kind]
    assert 0 < len(extended.files[kind]) <= recipe.most
    named = {path.replace("NAME", recipe.name) for path in numbered_paths(section)}
    assert extended.files[kind] == named


def check_generated(extended: Extended) -> None:
    """The golden file alone is generated."""
    assert extended.generated == {GOLDEN}
    assert f"`{GOLDEN}`" in sections()["method"][1]
    assert "center" in json.loads((extended.tree / GOLDEN).read_text(encoding="utf-8"))


# ---- the additions at work ------------------------------------------------------------------


def check_copy(extended: Extended) -> None:
    """The process used the copy, not this project."""
    assert Path(extended.facts["project"]).samefile(extended.tree)
    assert extended.facts["plugin"] == "avalanche_proxyfda.plugins.center"
    assert extended.facts["golden"] == 0


def check_record(extended: Extended) -> None:
    """The method learns the stream, and the record has the measure."""
    facts = extended.facts
    assert (facts["method"], facts["stream"]) == ("center", "mirrored")
    assert "Center_mean" in facts["terms"]
    drift = facts["drift"]["colours"]
    assert list(drift) == ["l2", "cka", "neighbors", "cosine"] and 0 < drift["cosine"] < 1
    assert facts["arm"] == "center"  # the bench of step times


def check_board(extended: Extended) -> None:
    """The board shows method, stream, measure and column."""
    board = extended.tree / "out" / "board"
    page = (board / "index.html").read_text(encoding="utf-8")
    assert page.count(".m-center{--light:#3f51b5;--dark:#9fa8ff}") == 1
    assert "mirrored <span" in page and 'data-key="worst"' in page
    assert '\\"cosine\\":' in page  # in the record, of which the page lists every measure
    lowest = min(extended.facts["accuracy"])
    for name in ("board.csv", "runs.csv"):
        (row,) = csv.DictReader((board / name).read_text(encoding="utf-8").splitlines())
        assert row["method"] == "center" and float(row["worst"]) == pytest.approx(lowest)


def check_incomplete_entries(extended: Extended, tmp_path: Path) -> None:
    """An incomplete entry of the registry fails at import, with the missing field."""
    whole = (extended.tree / "benchmarks/methods/registry.py").read_text(encoding="utf-8")
    file = tmp_path / "registry.py"
    for line, words in (
        ('        marker="*",\n', "'marker'"),
        ("        grid=(0.1, 0.3, 1, 3, 10),\n    ),\n}", r"strength=1 must be one of grid=\(\)"),
    ):
        assert whole.count(line) == 1
        file.write_text(whole.replace(line, "    ),\n}" if "}" in line else ""), encoding="utf-8")
        with pytest.raises((TypeError, ValueError), match=words):
            runpy.run_path(str(file), run_name="registry_of_a_test")


# ---- the guide ------------------------------------------------------------------------------


def test_every_path_of_the_guide_exists() -> None:
    text = GUIDE
    for kind, (_, section) in sections().items():
        text = text.replace(section, section.replace("NAME", RECIPES[kind].like))
    code = re.findall(r"`([^`\s]+)`", text)
    paths = {word for word in code if "/" in word or re.search(r"\.(md|toml|cfg|txt)$", word)}
    paths |= set(re.findall(r"\]\((?!https?:)([^)#]+)", text))
    assert len(paths) > 20
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_every_command_of_the_guide_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"`make ([a-z]+)`", GUIDE))
    assert {"venv", "test", "format"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    modules = set(re.findall(r"python -m ([a-z_.]+)", GUIDE))
    assert {"tests.golden.run", "benchmarks", "pytest"} <= modules
    for module in modules - {"pytest"}:
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module


def test_the_guide_names_every_room() -> None:
    for room in (room for floors in (*FLOORS, *BENCH_FLOORS) for room in floors):
        name = room.rpartition(".")[2]
        assert f"`{name}`" in GUIDE or name == "_", room
