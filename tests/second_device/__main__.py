"""Runs a Python command on the second device: ``python -m tests.second_device COMMAND``.

``python -m tests.second_device -m benchmarks accept`` runs the acceptance on it, for example.
torch loads every entry point of the group ``torch.backends`` when it is imported. So the processes
that the command starts have the device too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.second_device.build import missing_tool

ROOT = Path(__file__).parents[2]
_FILES = {
    "METADATA": "Metadata-Version: 2.1\nName: second-device\nVersion: 0\n",
    "entry_points.txt": "[torch.backends]\nsecond = tests.second_device.autoload:load\n",
}


def main(command: Sequence[str]) -> int:
    """Run ``python COMMAND`` with the device, and return its exit status."""
    # ninja of the same environment, which need not be activated
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    if missing := missing_tool(path):
        sys.exit(missing)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "second_device-0.dist-info")
        package.mkdir()
        for name, text in _FILES.items():
            (package / name).write_text(text, encoding="utf-8")
        found = os.pathsep.join(filter(None, [str(ROOT), folder, os.environ.get("PYTHONPATH")]))
        own = {**os.environ, "PATH": path, "PYTHONPATH": found}
        return subprocess.run([sys.executable, *command], env=own, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
