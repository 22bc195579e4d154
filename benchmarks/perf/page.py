"""Puts the tables of reports into a page, between marks that are named after them."""

from __future__ import annotations

import argparse
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.atomic import write_bytes
from benchmarks.perf.report import read

MEASURED = ("overhead", "memory", "scaling", "cache")
_MARKED = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``perf page``."""
    parser.add_argument("page", type=Path, help="Markdown; docs/performance.md")
    parser.add_argument(
        "--of", type=Path, default=None, metavar="FOLDER",
        help="of the reports; default: that of the page's own name beside it",
    )  # fmt: skip


def section(made: dict[str, Any]) -> str:
    """A report's command, machine and table, as Markdown."""
    where, code = made["machine"], made["code"]
    commit = str(code["commit"])[:7] + (" and changes" if code["changed"] else "")
    versions = made["versions"]
    load = where["load_at_start"]
    about = [
        f"`{made['command']}`",
        f"{where['processor']}, {where['cores']} cores, {where['threads']} threads; "
        f"device: {where['device']}; Python {versions['python']}, torch {versions['torch']}; "
        f"commit {commit}" + ("" if load is None else f"; load at the start: {load:.1f}"),
    ]
    return "\n\n".join([*about, import_module(f"benchmarks.perf.{made['kind']}").table(made)])


def filled(text: str, folder: Path) -> str:
    """``text`` with every marked part made anew from its report in ``folder``, if there is one.

    Raises:
        ValueError: for a mark that names no measurement, or a file that is no report.
    """

    def part(found: re.Match[str]) -> str:
        name = found[2]
        if name not in MEASURED:
            raise ValueError(f"<!-- {name} --> marks no measurement; there are {MEASURED}")
        file = folder / f"{name}.json"
        text = (
            section(read(file)) if file.is_file() else f"Not measured yet: there is no {file.name}."
        )
        if (folder / f"{name}.svg").is_file():
            text += f"\n\n![{name}]({folder.name}/{name}.svg)"
        return f"{found[1]}\n{text}\n\n{found[3]}"

    return _MARKED.sub(part, text)


def main(args: argparse.Namespace) -> int:
    """Rewrite the page."""
    folder = args.of or args.page.with_suffix("")
    write_bytes(args.page, filled(args.page.read_text("utf-8"), folder).encode())
    print(f"{args.page} has the tables of {folder}")
    return 0
