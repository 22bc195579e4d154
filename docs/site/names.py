"""Public names of the package, read from the sources: nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "avalanche_proxyfda"


@dataclass(frozen=True)
class PublicName:
    """A public name of the package.

    Attributes:
        name: the name itself.
        module: dotted name of the module that defines it.
        offered: dotted name of the package that users import it from.
    """

    name: str
    module: str
    offered: str

    @property
    def room(self) -> str:
        """Name of the folder of the package that defines it."""
        return self.module.split(".")[1]


def public_names(root: Path) -> list[PublicName]:
    """Return the public names of the package and of its folders, by folder and name.

    Names come from ``__init__.pyi``, or from ``__all__`` of a folder without a stub. A name that
    the package itself offers is listed once, as the package's.

    Args:
        root: folder of the repository.
    """
    names: dict[tuple[str, str], PublicName] = {}
    folders = sorted(each for each in (root / PACKAGE).iterdir() if each.is_dir())
    for folder in (root / PACKAGE, *folders):
        package = ".".join(folder.relative_to(root).parts)
        for name in offered(root, package):
            module = _defining(root, package, name)
            if not module.split(".")[1].startswith("_"):
                names.setdefault((module, name), PublicName(name, module, package))
    return sorted(names.values(), key=lambda each: (each.room, each.name.lower()))


def offered(root: Path, package: str) -> dict[str, str]:
    """Return the names that a package offers, each with the module it is imported from."""
    folder = root.joinpath(*package.split("."))
    stub, source = folder / "__init__.pyi", folder / "__init__.py"
    file = stub if stub.is_file() else source
    if not file.is_file():
        return {}
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = dict(_imported(tree, package))
    if file == stub:
        return names
    listed = _listed(tree)
    return {name: module for name, module in names.items() if name in listed}


def _imported(tree: ast.Module, package: str) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            module = f"{package}.{node.module}" if node.level else node.module
            yield from ((alias.asname or alias.name, module) for alias in node.names)


def _listed(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []


def _defining(root: Path, package: str, name: str) -> str:
    """Return the module that defines a name, through packages that offer it again."""
    module = offered(root, package)[name]
    inner = root.joinpath(*module.split("."))
    return _defining(root, module, name) if inner.is_dir() else module
