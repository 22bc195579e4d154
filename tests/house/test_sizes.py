"""How large the files are, and how much of them is hidden from types and formatter."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

from tests.house.imports import PACKAGES, ROOT, modules

SKIPPED = re.compile(r"# fmt: (skip|off)")
MOST_LINES, MEDIAN_LINES = 400, 120


def _python(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_files_are_small() -> None:
    sizes = {str(p.relative_to(ROOT)): _lines(p) for p in _python(*PACKAGES, "tests")}
    assert {name: size for name, size in sizes.items() if size > MOST_LINES} == {}
    whole = [size for name, size in sizes.items() if name.startswith(PACKAGES) and size > 2]
    assert statistics.median(whole) <= MEDIAN_LINES


def test_the_formatter_is_rarely_told_to_keep_away() -> None:
    places = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in _python(*PACKAGES, "tests")
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if SKIPPED.search(line)
    ]
    assert len(places) < 20, places


def test_a_strategy_has_a_type() -> None:
    untyped = []
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.arg) and node.arg == "strategy"
            if named and (node.annotation is None or ast.unparse(node.annotation) == "Any"):
                untyped.append(f"{name}:{node.lineno}")
    assert len(untyped) <= 20, untyped


def test_every_public_function_has_a_docstring() -> None:
    bare = []
    for name, path in modules().items():
        for node, public in _definitions(ast.parse(path.read_text(encoding="utf-8"))):
            if public and ast.get_docstring(node) is None:
                bare.append(f"{name}.{node.name}:{node.lineno}")
    assert bare == []


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _definitions(tree: ast.Module) -> Iterator[tuple[Definition, bool]]:
    """Functions and classes of a module and of its classes, and whether they are public."""
    left: list[tuple[ast.stmt, bool]] = [(node, True) for node in tree.body]
    while left:
        node, outer = left.pop()
        if isinstance(node, Definition):
            public = outer and not node.name.startswith("_")
            yield node, public
            if isinstance(node, ast.ClassDef):
                left += [(inner, public) for inner in node.body]
