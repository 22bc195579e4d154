"""Any terminal, any locale: text is read as UTF-8, and printing fails on no character."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as entry
from benchmarks.execution.failure import attempt

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from benchmarks._printing import print_every_character
from benchmarks.config import load_recipe
print_every_character()
print(load_recipe(Path(sys.argv[1])).config.head.templates[0])
print(chr(0x3bb), file=sys.stderr)
"""


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", None])
def test_a_recipe_is_utf8_in_a_locale_that_is_not(tmp_path: Path, encoding: str | None) -> None:
    recipe = tmp_path / "λ.yaml"
    recipe.write_text("head: {templates: ['λ, δ: {}']}", encoding="utf-8")
    own = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    own |= {} if encoding is None else {"PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, os.fspath(recipe)],
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, **own},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [rb"\u03bb,", rb"\u03b4:", b"{}"]
    assert done.stderr.strip().endswith(rb"\u03bb")


def test_the_command_line_prints_to_cp1252(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="cp1252") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "run", "--help"])
    with pytest.raises(UnicodeEncodeError):
        out.write("λ")
    with pytest.raises(SystemExit) as ended:
        entry.main()
    out.flush()
    text = out.buffer.getvalue().decode("cp1252")  # type: ignore[attr-defined]
    assert ended.value.code == 0 and r"strength = null    \u03bb of the method" in text


def test_a_worker_prints_to_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", None)  # pythonw has none
    assert attempt(lambda job, parallel: print("λ"), None, 1) is None  # type: ignore[arg-type, func-returns-value, return-value]
    out.flush()
    assert out.buffer.getvalue().split() == [rb"\u03bb"]  # type: ignore[attr-defined]
