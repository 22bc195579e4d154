"""The project's modules and who imports whom, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("avalanche_proxyfda", "benchmarks")


@dataclass(frozen=True)
class Import:
    """One import of a project module by another.

    Attributes:
        importer: dotted name of the importing module.
        imported: dotted name of the imported module.
        line: line number in the importer.
        at_top: true if the import stands at the top level of the module.
        typing_only: true if the import stands under ``if TYPE_CHECKING``.
    """

    importer: str
    imported: str
    line: int
    at_top: bool
    typing_only: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


@cache
def modules(root: Path = ROOT) -> dict[str, Path]:
    """File of each project module, by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


def _targets(node: ast.stmt, known: dict[str, Path]) -> Iterator[str]:
    """Project modules that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in known)
    elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            if inner in known:
                yield inner
            elif node.module in known:
                yield node.module


@cache
def imports(root: Path = ROOT) -> tuple[Import, ...]:
    """Every import of a project module by a project module."""
    known, found = modules(root), []
    for name, path in known.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = {id(node) for node in tree.body}
        typing = {
            id(inner)
            for node in tree.body
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                for target in _targets(node, known):
                    found.append(
                        Import(name, target, node.lineno, id(node) in top, id(node) in typing)
                    )
    return tuple(found)


def circles(root: Path = ROOT) -> list[list[str]]:
    """Groups of modules that import each other, directly or not (Tarjan's components)."""
    graph: dict[str, set[str]] = {name: set() for name in modules(root)}
    for each in imports(root):
        if each.importer != each.imported:
            graph[each.importer].add(each.imported)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return found


def room(module: str) -> str:
    """The room of a module: ``avalanche_proxyfda.losses``, ``benchmarks.board``, and so on.

    The package's shared helpers, whose names begin with an underscore, are one room.
    """
    parts = module.split(".")
    if len(parts) == 1:
        return module
    if parts[1].startswith("_") and parts[1] != "__main__":
        return f"{parts[0]}._"
    return ".".join(parts[:2])
