"""Every file, module and function that the documentation and the sources name exists."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HISTORY = ("docs/results.md", "docs/diary.md")
"""Reports of old runs keep the names of their time; only their links are checked."""

PATH = re.compile(r"(?<![\w/.-])(?:avalanche_proxyfda|benchmarks|tests|docs)/[\w./-]*\w")
DOTTED = re.compile(r"(?<![\w/.-])(?:avalanche_proxyfda|benchmarks|tests)(?:\.[A-Za-z_]\w*)+")
SHORT = re.compile(r"`([\w/]+\.py)`")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
PROJECT = re.compile(r"(avalanche_proxyfda|benchmarks)\b")
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def documents() -> list[str]:
    """Paths of the documentation that people write; ``docs/board`` is generated."""
    front = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
    pages = (p for p in sorted((ROOT / "docs").rglob("*.md")) if "board" not in p.parts)
    return [p.relative_to(ROOT).as_posix() for p in (*front, *pages) if p.is_file()]


@cache
def files() -> frozenset[str]:
    """Paths of the files of code and documentation."""
    folders = ("avalanche_proxyfda", "benchmarks", "tests", "docs")
    found = (p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file())
    return frozenset(p.relative_to(ROOT).as_posix() for p in found)


@cache
def exists(name: str) -> bool:
    """Return True if ``name`` is a module, or an attribute of a module or class.

    Modules of the tests are found and not imported: some of them change the process.
    """
    if name.startswith("tests."):
        return importlib.util.find_spec(name) is not None
    first, *parts = name.split(".")
    here = importlib.import_module(first)
    for part in parts:
        inner = f"{here.__name__}.{part}"
        if hasattr(here, "__path__") and importlib.util.find_spec(inner) is not None:
            here = importlib.import_module(inner)
        elif hasattr(here, part):
            here = getattr(here, part)
        else:
            return False
    return True


def imported(text: str) -> Iterator[str]:
    """Dotted names that the Python examples of a page import from the project."""
    for block in PYTHON.findall(text):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and PROJECT.match(node.module or ""):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def missing(text: str) -> list[str]:
    """Paths and dotted names in ``text`` that lead nowhere, sorted.

    ``NAME`` in a path stands for any name.
    """
    bad = {path for path in PATH.findall(text) if not any(ROOT.glob(path.replace("NAME", "*")))}
    bad |= {name for name in (*DOTTED.findall(text), *imported(text)) if not exists(name)}
    for short in SHORT.findall(text):
        whole = PATH.fullmatch(short)
        if not whole and not any(f"/{path}".endswith(f"/{short}") for path in files()):
            bad.add(short)
    return sorted(bad)


@pytest.mark.parametrize("file", [name for name in documents() if name not in HISTORY])
def test_what_a_page_names_exists(file: str) -> None:
    assert missing((ROOT / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", documents())
def test_links_of_a_page_lead_somewhere(file: str) -> None:
    targets = LINK.findall((ROOT / file).read_text(encoding="utf-8"))
    assert [t for t in targets if not ((ROOT / file).parent / t).exists()] == []


@pytest.mark.parametrize("package", ["avalanche_proxyfda", "benchmarks"])
def test_what_the_sources_name_exists(package: str) -> None:
    bad = {}
    for path in sorted((ROOT / package).rglob("*")):
        if path.suffix in (".py", ".pyi", ".md", ".yaml"):
            bad[path.relative_to(ROOT).as_posix()] = missing(path.read_text(encoding="utf-8"))
    assert len(bad) > 50
    assert {file: names for file, names in bad.items() if names} == {}


def test_a_name_that_leads_nowhere_is_noticed() -> None:
    text = """`benchmarks/engine.py`, benchmarks/methods/registry.py, `engine.py`, `drift.py`,
    `avalanche_proxyfda/losses/NAME.py`, `avalanche_proxyfda/rooms/NAME.py`,
    `benchmarks.execution.path.lambda_path`, `benchmarks.execution.path.gone`, benchmarks.tuned,
    `avalanche_proxyfda.FDALoss`, `avalanche_proxyfda.streams.imagenet_r.split_imagenet_r`
```python
from avalanche_proxyfda import Checkpoints, Gone
```
"""
    assert missing(text) == [
        "avalanche_proxyfda.Gone",
        "avalanche_proxyfda/rooms/NAME.py",
        "benchmarks.execution.path.gone",
        "benchmarks.tuned",
        "benchmarks/engine.py",
        "engine.py",
    ]
    assert {"README.md", "docs/records.md", "docs/methods/fda.md"} <= set(documents())
    assert LINK.findall("[a](records.md#a-sweep) [b](https://x.org/y) [c](#d)") == ["records.md"]
