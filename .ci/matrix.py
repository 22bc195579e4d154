"""Run the suite in several environments: the oldest that the metadata allows, and the newest.

``make matrix`` builds each environment under ``build/matrix`` (about 7 GB), runs the tests there,
removes it, and prints a table. The variable ``PYTHON_3_10=/its/path`` names an interpreter. Without
the variable, ``python3.10`` on the path is tried, and then pyenv's versions. An environment whose
interpreter does not start is reported as not run.
"""

from __future__ import annotations

import argparse
import configparser
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = "bench,dev,ot,ray,timm"
_BOUND = re.compile(r"([A-Za-z0-9_.-]+)>=([0-9][0-9.]*)")
_OF_TORCH = re.compile(r"(torch|torchvision|triton|(nvidia|cuda)-[a-z0-9-]+)==")
_COUNTS = re.compile(r"\d+ (?:passed|failed|errors?)\b.*")
NOT_RUN = "not run"


@dataclass(frozen=True)
class Environment:
    """A Python version, and the versions of everything else."""

    python: str
    versions: str  # "lowest", what setup.cfg allows; "tested", constraints.txt; or of TORCH

    @property
    def name(self) -> str:
        """Also the name of its folder and of its log."""
        return f"{self.python}-{self.versions}"


TORCH = {"torch2.11": ("torch==2.11.0", "torchvision==0.26.0")}
"""Pins of an older torch, which goes with the rest of constraints.txt."""
ENVIRONMENTS = (
    Environment("3.10", "lowest"),
    Environment("3.11", "tested"),
    Environment("3.12", "torch2.11"),
    Environment("3.12", "tested"),
    Environment("3.13", "tested"),
)


@dataclass(frozen=True)
class Result:
    """Outcome of one environment: ``passed``, ``failed`` or ``not run``, and the reason."""

    environment: Environment
    status: str
    said: str
    torch: str = ""
    seconds: float = 0.0


def lower_bounds(text: str) -> list[str]:
    """Pins of every requirement of a setup.cfg, extras included, at its lower bound.

    A requirement that several extras name has one pin.

    Raises:
        ValueError: for a requirement that has another form than ``name>=version``, or has
            two lower bounds.
    """
    setup = configparser.ConfigParser()
    setup.read_string(text)
    blocks = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    pins: dict[str, str] = {}
    for line in (line.strip() for block in blocks for line in block.splitlines()):
        found = _BOUND.fullmatch(line)
        if line and found is None:
            raise ValueError(f"setup.cfg: {line!r} has no lower bound; write name>=version")
        if found and pins.setdefault(found[1], found[2]) != found[2]:
            raise ValueError(f"setup.cfg: {found[1]!r} has two lower bounds; give it one")
    return [f"{name}=={version}" for name, version in pins.items()]


def with_torch(text: str, pins: Sequence[str]) -> list[str]:
    """Return the lines of a constraints file with other pins of torch.

    The lines of torch's own requirements are left out, because each torch pins its own.
    """
    return [line for line in text.splitlines() if not _OF_TORCH.match(line)] + list(pins)


def variable_of(version: str) -> str:
    """Return the variable that names the interpreter of a version."""
    return "PYTHON_" + version.replace(".", "_")


def find_python(version: str) -> str | None:
    """Return an interpreter of a version that starts, or None.

    A name on the path is no proof: pyenv puts a shim there for each version that it has, and the
    shim of a version that is not selected exits with an error.
    """
    given = os.environ.get(variable_of(version))
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    pyenv = [str(folder / "bin" / "python") for folder in sorted(versions.glob(f"{version}.*"))]
    candidates = [given] if given else [f"python{version}", *pyenv]
    return next((path for path in map(shutil.which, candidates) if _is(path, version)), None)


def _is(path: str | None, version: str) -> bool:
    """Return whether an interpreter starts and has the version."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    if path is None:
        return False
    answer = subprocess.run([path, "-c", ask], capture_output=True, encoding="utf-8")
    return answer.returncode == 0 and answer.stdout.strip() == version


def run(environment: Environment, place: Path, pytest: Sequence[str], keep: bool) -> Result:
    """Build the environment under ``place``, run the tests in it; ``place/NAME.log`` has it all."""
    python = find_python(environment.python)
    if python is None:
        variable = variable_of(environment.python)
        return Result(environment, NOT_RUN, f"no python{environment.python}; set {variable}=PATH")
    place.mkdir(parents=True, exist_ok=True)
    folder = place / environment.name
    own = str(folder / "bin" / "python")
    pins = ROOT / "constraints.txt"
    if environment.versions != "tested":
        if environment.versions == "lowest":
            lines = lower_bounds((ROOT / "setup.cfg").read_text(encoding="utf-8"))
        else:
            lines = with_torch(pins.read_text(encoding="utf-8"), TORCH[environment.versions])
        pins = place / f"{environment.versions}.txt"
        pins.write_text("\n".join(lines) + "\n", encoding="utf-8")
    install = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps = {
        "environment": [python, "-m", "venv", "--clear", str(folder)],
        "pip": [*install, "--upgrade", "pip"],  # old ones' resolvers give up on old pins
        "installation": [*install, "-c", str(pins), "-e", f"{ROOT}[{EXTRAS}]"],
        "tests": [own, "-m", "pytest", "-p", "no:cacheprovider", *pytest],
    }
    began, torch = time.monotonic(), ""
    try:
        with (place / f"{environment.name}.log").open(
            "w+", encoding="utf-8", errors="replace"
        ) as log:
            for step, command in steps.items():
                beginning = log.tell()
                done = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
                log.seek(beginning)
                lines = [line.strip(" =\n") for line in log]
                said = next((x for x in reversed(lines) if _COUNTS.search(x)), "")
                if done.returncode:
                    said = said or f"the {step} failed, see {log.name}"
                    return Result(environment, "failed", said, torch, time.monotonic() - began)
                if step == "installation":
                    ask = [own, "-c", "import torch; print(torch.__version__)"]
                    torch = subprocess.run(
                        ask, capture_output=True, encoding="utf-8"
                    ).stdout.strip()
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return Result(environment, "passed", said, torch, time.monotonic() - began)


def table(results: Sequence[Result]) -> str:
    """One line an environment."""
    rows = [("environment", "torch", "result", "minutes", "")]
    rows += [
        (r.environment.name, r.torch or "-", r.status, f"{r.seconds / 60:.1f}", r.said)
        for r in results
    ]
    widths = [max(len(row[k]) for row in rows) for k in range(5)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 when tests or an installation failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [e.name for e in ENVIRONMENTS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME",
                        help="some of " + ", ".join(names))  # fmt: skip
    parser.add_argument("--place", type=Path, default=ROOT / "build" / "matrix")
    parser.add_argument("--keep", action="store_true", help="keep the environments (7 GB each)")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, after --")
    asked = parser.parse_args(arguments)
    results = []
    for environment in (e for e in ENVIRONMENTS if e.name in asked.only):
        print(f"{environment.name} …", file=sys.stderr, flush=True)
        results.append(run(environment, asked.place, asked.pytest, asked.keep))
    print(table(results))
    return int(any(r.status == "failed" for r in results))


if __name__ == "__main__":
    raise SystemExit(main())
