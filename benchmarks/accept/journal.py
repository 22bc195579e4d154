"""The outcomes on disk: an acceptance that a time limit cut off goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import avalanche_proxyfda
import benchmarks
from avalanche_proxyfda._accelerator import device_count, device_name, total_memory
from avalanche_proxyfda._files import write_bytes
from benchmarks.accept.check import Outcome, Setting
from benchmarks.experiment.processor import processor


def machine_of(setting: Setting) -> dict[str, Any]:
    """Return the names and versions that decide what an outcome holds for."""
    memory = total_memory(setting.device)
    return {
        "device": device_name(setting.device),
        "count": device_count(setting.device),
        "memory_gib": None if memory is None else round(memory / 2**30, 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "code": code_hash(),
        "quick": setting.quick,
    }


def code_hash() -> str:
    """Return a hash of all Python files of the package and the benchmarks; no git is needed."""
    digest = hashlib.sha256()
    for package in (avalanche_proxyfda, benchmarks):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            digest.update(path.relative_to(root.parent).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class Journal:
    """Outcomes in a JSON file, which is written after each check.

    Args:
        path: the file; an existing one of the same machine and code is continued.
        machine: see :func:`machine_of`.
        again: True starts anew.

    Attributes:
        outcomes: outcomes by name of the check, in the order of the checks.
        begun: times that a check began without an outcome, by its name.
    """

    def __init__(self, path: Path, machine: Mapping[str, Any], again: bool = False) -> None:
        self.path, self.machine = path, dict(machine)
        self.outcomes: dict[str, Outcome] = {}
        self.begun: dict[str, int] = {}
        if not again and path.exists():
            self._read()

    def _read(self) -> None:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            same = content["machine"] == json.loads(json.dumps(self.machine))
            listed = [Outcome(**each) for each in content["outcomes"]]
            begun = {str(name): int(times) for name, times in content.get("begun", {}).items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"--out {self.path}: the file is no report of an acceptance ({error}): name "
                "another file, or pass --again to replace it"
            ) from error
        # a failure may be mended by now, so only the other outcomes stand
        kept = [each for each in listed if same and each.status != "failed"]
        self.outcomes = {each.name: each for each in kept}
        self.begun = begun if same else {}

    def begin(self, name: str) -> int:
        """Note in the file that a check begins.

        Returns:
            How often the check began before without an outcome: the process ended within it.
        """
        before = self.begun.get(name, 0)
        self.begun[name] = before + 1
        self.write()
        return before

    def forget(self, name: str) -> None:
        """Note in the file that a check did not begin."""
        self.begun.pop(name, None)
        self.write()

    def add(self, outcome: Outcome) -> None:
        """Add an outcome and write the file."""
        self.outcomes[outcome.name] = outcome
        self.begun.pop(outcome.name, None)
        self.write()

    def write(self) -> None:
        """Write the file, in one step."""
        content = {
            "machine": self.machine,
            "begun": self.begun,
            "outcomes": [each.plain() for each in self.outcomes.values()],
        }
        write_bytes(self.path, (json.dumps(content, indent=1) + "\n").encode())
