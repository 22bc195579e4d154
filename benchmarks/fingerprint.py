"""Which code trains by a method: a hash of sources that comments do not change."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from functools import cache
from pathlib import Path

from benchmarks.methods import METHODS

ROOT = Path(__file__).parents[1]
_SHARED = ("benchmarks.backbones", "benchmarks.finetune", "benchmarks.model")
_PROBED = "avalanche_proxyfda.plugins.lp_ft"


@cache
def method_sha256(method: str) -> str:
    """SHA-256 of the sources that decide how ``method`` trains.

    Its plugin's module, what that imports of the package, directly or not, and what all methods
    share: backbones, heads, learning rates, batches. Docstrings, comments and empty lines do
    not count.
    """
    build = METHODS[method].build
    roots = [*_SHARED, _PROBED, *([build.__module__] if build else [])]
    digest = hashlib.sha256()
    for name, path in sorted(_imported(roots).items()):
        digest.update(f"{name}\n{bare(path.read_text())}\n".encode())
    return digest.hexdigest()


def _file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    for found in (path.with_suffix(".py"), path / "__init__.py"):
        if found.is_file():
            return found
    return None


def _imported(roots: list[str]) -> dict[str, Path]:
    """The roots, and what they import of the package, by name."""
    found: dict[str, Path] = {}
    left = list(roots)
    while left:
        name = left.pop()
        path = _file(name)
        if name in found or path is None:
            continue
        found[name] = path
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            # whatever is imported by way of the package itself would be all of it
            left += [n for n in names if n.startswith("avalanche_proxyfda.")]
    return found


def bare(source: str) -> str:
    """Source without docstrings, comments, empty lines and spaces at the ends of lines."""
    lines = source.splitlines()
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kinds) and ast.get_docstring(node) is not None:
            text = node.body[0]
            first, last = text.lineno - 1, (text.end_lineno or text.lineno) - 1
            for number in range(first, last + 1):
                line = lines[number].encode()  # columns are of bytes
                start = text.col_offset if number == first else 0
                end = text.end_col_offset if number == last else len(line)
                lines[number] = (line[:start] + b" " * (end - start) + line[end:]).decode()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT and lines[row - 1]:
            lines[row - 1] = lines[row - 1][:column]
    return "\n".join(line.rstrip() for line in lines if line.strip())
