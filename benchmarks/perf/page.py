"""Puts the tables of reports into a page, between marks with the names of the reports."""

from __future__ import annotations

import argparse
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from avalanche_proxyfda._files import write_bytes
from benchmarks.perf.report import read

MEASURED = ("overhead", "memory", "operations", "scaling", "cache", "input")
_MARKED = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def section(measured: dict[str, Any]) -> str:
    """Format a report's command, machine and table as Markdown."""
    where, code = measured["machine"], measured["code"]
    commit = str(code["commit"])[:7] + (" and changes" if code["changed"] else "")
    versions = measured["versions"]
    load = where["load_at_start"]
    about = [
        f"`{measured['command']}`",
        f"{where['processor']}, {where['cores']} cores, {where['threads']} threads; "
        f"device: {where['device']}; Python {versions['python']}, torch {versions['torch']}; "
        f"commit {commit}" + ("" if load is None else f"; load at the start: {load:.1f}"),
    ]
    return "\n\n".join(
        [*about, import_module(f"benchmarks.perf.{measured['kind']}").table(measured)]
    )


def filled(text: str, folder: Path) -> str:
    """Replace every marked part of ``text`` by the section of its report.

    Args:
        text: Markdown with marks.
        folder: folder of the reports; a part without a report becomes a note.

    Raises:
        ValueError: if a mark names no measurement, or a file is no report.
    """

    def part(match: re.Match[str]) -> str:
        name = match[2]
        if name not in MEASURED:
            raise ValueError(f"<!-- {name} --> marks no measurement: name one of {MEASURED}")
        file = folder / f"{name}.json"
        text = (
            section(read(file)) if file.is_file() else f"Not measured yet: there is no {file.name}."
        )
        if (folder / f"{name}.svg").is_file():
            text += f"\n\n![{name}]({folder.name}/{name}.svg)"
        return f"{match[1]}\n{text}\n\n{match[3]}"

    return _MARKED.sub(part, text)


def main(args: argparse.Namespace) -> int:
    """Rewrite the page; returns the exit status 0."""
    folder = args.of or args.page.with_suffix("")
    write_bytes(args.page, filled(args.page.read_text("utf-8"), folder).encode())
    print(f"{args.page} has the tables of {folder}")
    return 0
