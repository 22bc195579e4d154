"""Writes ``losses.json``, the golden numbers of every method, and compares runs with them.

``python -m tests.golden.run [METHOD ...] [--force]``
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.methods.registry import METHODS, check_method
from tests.golden.toy import Numbers, toy_run

FILE = Path(__file__).with_name("losses.json")
TOLERANCE = 1e-6
"""Relative. Threads and processors change float64 sums by less than a thousandth of that."""
COMMAND = "python -m tests.golden.run"
REGISTRY = "benchmarks/methods/registry.py"


@dataclass(frozen=True)
class Golden:
    """The numbers of a method at one version of the method."""

    version: int
    numbers: Numbers


def read(path: Path = FILE) -> dict[str, Golden]:
    """The golden numbers by method."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {
        method: Golden(entry["version"], Numbers(tuple(entry["losses"]), entry["norm"]))
        for method, entry in content.items()
    }


def write(golden: Mapping[str, Golden], path: Path = FILE) -> None:
    """Write ``golden`` in the registry's order, without methods that the registry lacks."""
    content = {
        method: {
            "version": golden[method].version,
            "losses": golden[method].numbers.losses,
            "norm": golden[method].numbers.norm,
        }
        for method in METHODS
        if method in golden
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def version_problem(method: str, golden: Mapping[str, Golden]) -> str | None:
    """Why the golden numbers are of no use for the present version; None if they are."""
    version = METHODS[method].version
    if method not in golden:
        return f"{FILE.name} has no numbers of {method}: run {COMMAND} to write them"
    recorded = golden[method].version
    if version > recorded:
        return (
            f"the version of {method} was raised from {recorded} to {version}: "
            f"run {COMMAND} {method} to write its numbers anew"
        )
    if version < recorded:
        return (
            f"the version of {method} went down from {recorded} to {version}: "
            f"set it to {recorded} or more in {REGISTRY}"
        )
    return None


def difference(golden: Numbers, present: Numbers) -> str | None:
    """The first number of two runs that differs; None if all agree within the tolerance."""
    if len(golden.losses) != len(present.losses):
        return f"{len(present.losses)} steps instead of {len(golden.losses)}"
    names = [f"loss of step {step}" for step in range(1, len(golden.losses) + 1)]
    pairs = zip((*golden.losses, golden.norm), (*present.losses, present.norm), strict=True)
    for name, (before, now) in zip([*names, "norm of the weights"], pairs, strict=True):
        if not math.isclose(before, now, rel_tol=TOLERANCE):
            return f"{name}: {now!r} instead of {before!r}"
    return None


def number_problem(method: str, golden: Numbers, present: Numbers) -> str | None:
    """Which numbers of ``method`` changed, and what to do; None if all agree."""
    changed = difference(golden, present)
    if changed is None:
        return None
    return (
        f"the numbers of {method} changed ({changed}): if that is meant, raise its version in "
        f"{REGISTRY} and run {COMMAND}"
    )


def update(methods: Sequence[str], force: bool = False, path: Path = FILE) -> list[str]:
    """Write the golden numbers anew where that is allowed.

    Args:
        methods: to run; none takes those that are missing or of another version, and with
            ``force`` all.
        force: replace numbers whose version was not raised.
        path: the file.

    Returns:
        A message for each method whose numbers were refused.
    """
    golden = read(path) if path.exists() else {}
    due = methods or [name for name in METHODS if force or version_problem(name, golden)]
    refused = []
    for method in due:
        version, recorded = METHODS[method].version, golden.get(method)
        present = toy_run(method)
        if recorded is not None and version <= recorded.version and not force:
            problem = version_problem(method, golden)
            problem = problem or number_problem(method, recorded.numbers, present)
            refused += [problem] if problem else []
            continue
        golden[method] = Golden(version, present)
    write(golden, path)
    return refused


def main(arguments: Sequence[str] | None = None, path: Path = FILE) -> int:
    """Run the command; 1 when numbers were refused."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write the golden numbers.")
    parser.add_argument(
        "methods",
        nargs="*",
        metavar="METHOD",
        type=check_method,
        help="to run; without one, the methods that are missing or of another version",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace numbers whose version was not raised; for a change of the toy run alone",
    )
    given = parser.parse_args(arguments)
    refused = update(given.methods, given.force, path)
    for message in refused:
        print(f"refused: {message}", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    raise SystemExit(main())
