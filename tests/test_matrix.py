"""The tool that runs the suite in several environments, on small stand-ins for its steps."""

from __future__ import annotations

import os
import stat
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def matrix() -> ModuleType:
    """Return the tool, which is no part of a package."""
    spec = spec_from_file_location("matrix", ROOT / ".ci" / "matrix.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["matrix"] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


def stand_in(path: Path, tests: str, status: int = 0, pip: int = 0, version: str = "3.13") -> Path:
    """Write an interpreter that copies itself for a venv, and prints ``tests`` for pytest."""
    path.write_text(
        f"""#!/bin/sh
case "$*" in
  *sys.version_info*) echo {version} ;;
  *venv*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python" ;;
  *torch.__version__*) echo 9.9.9 ;;
  *install*) exit {pip} ;;
  *pytest*) echo "$*"; echo "{tests}"; exit {status} ;;
esac
""",
        encoding="utf-8",
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_every_requirement_has_a_lower_bound_that_can_be_pinned(matrix: ModuleType) -> None:
    pins = matrix.lower_bounds((ROOT / "setup.cfg").read_text(encoding="utf-8"))
    names = [pin.partition("==")[0] for pin in pins]
    assert {"torch", "torchvision", "numpy", "pytest", "timm", "ray"} <= set(names)
    assert len(set(names)) == len(names)
    head = "[options]\ninstall_requires =\n    torch>=2.4\n{}[options.extras_require]\nx =\n"
    assert matrix.lower_bounds(head.format("")) == ["torch==2.4"]
    with pytest.raises(ValueError, match="'numpy' has no lower bound"):
        matrix.lower_bounds(head.format("    numpy\n"))
    assert matrix.lower_bounds(head.format("    torch>=2.4\n")) == ["torch==2.4"]
    with pytest.raises(ValueError, match="'torch' has two lower bounds"):
        matrix.lower_bounds(head.format("    torch>=2.5\n"))


def test_the_oldest_python_of_the_metadata_is_run(matrix: ModuleType) -> None:
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    asked = {e.python for e in matrix.ENVIRONMENTS}
    assert all(f"Python :: {python}\n" in text for python in asked)
    assert f"python_requires = >={matrix.ENVIRONMENTS[0].python}\n" in text
    assert {e.versions for e in matrix.ENVIRONMENTS} == {"lowest", "tested", *matrix.TORCH}


def test_an_older_torch_goes_with_the_other_pins(matrix: ModuleType) -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = matrix.with_torch(pins, matrix.TORCH["torch2.11"])
    names = [line.partition("==")[0] for line in lines if not line.startswith("#")]
    assert lines[-2:] == ["torch==2.11.0", "torchvision==0.26.0"] and len(set(names)) == len(names)
    assert {"torchmetrics", "numpy", "avalanche-lib"} <= set(names)
    assert not [n for n in names if n == "triton" or n.startswith(("nvidia-", "cuda-"))]


def test_an_interpreter_must_start_and_have_the_version(
    matrix: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shims, root = tmp_path / "shims", tmp_path / "pyenv"
    shims.mkdir()
    monkeypatch.setenv("PATH", f"{shims}:{os.environ['PATH']}")
    monkeypatch.setenv("PYENV_ROOT", str(root))
    monkeypatch.delenv("PYTHON_3_99", raising=False)
    shim = shims / "python3.99"
    shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n", encoding="utf-8")
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    assert matrix.find_python("3.99") is None
    for folder, version in (("3.9.9", "3.9"), ("3.99.1", "3.99")):
        (root / "versions" / folder / "bin").mkdir(parents=True)
        stand_in(root / "versions" / folder / "bin" / "python", "", version=version)
    in_pyenv = str(root / "versions" / "3.99.1" / "bin" / "python")
    assert matrix.find_python("3.99") == in_pyenv  # the shim is skipped
    stand_in(shim, "", version="3.99")
    assert matrix.find_python("3.99") == str(shim)
    other = stand_in(tmp_path / "other", "", version="3.98")
    monkeypatch.setenv("PYTHON_3_99", str(other))
    assert matrix.find_python("3.99") is None  # the named one, or none


def test_passed_failed_and_not_run(
    matrix: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for version in ("3_10", "3_11", "3_12", "3_13"):
        monkeypatch.setenv(f"PYTHON_{version}", str(tmp_path / "absent"))
    assert matrix.main(["--place", str(tmp_path / "m")]) == 0  # nothing could be run or failed
    assert capsys.readouterr().out.count("not run") == 5
    good = stand_in(tmp_path / "good", "== 7 passed, 2 skipped in 3s ==")
    monkeypatch.setenv("PYTHON_3_13", str(good))
    place = tmp_path / "m"
    assert matrix.main(["--place", str(place), "--", "-x", "tests"]) == 0
    table = capsys.readouterr().out
    assert table.count("not run") == 4 and "no python3.12; set PYTHON_3_12=PATH" in table
    assert "3.13-tested     9.9.9  passed" in table and "7 passed, 2 skipped in 3s" in table
    assert "-m pytest -p no:cacheprovider -x tests" in (place / "3.13-tested.log").read_text(
        encoding="utf-8"
    )
    assert [p.name for p in place.iterdir()] == ["3.13-tested.log"]  # the environment is gone
    bad = stand_in(tmp_path / "bad", "== 1 failed, 6 passed in 3s ==", status=1, version="3.10")
    monkeypatch.setenv("PYTHON_3_10", str(bad))
    assert matrix.main(["--place", str(place), "--only", "3.10-lowest", "--keep"]) == 1
    assert "failed" in (said := capsys.readouterr().out) and "1 failed, 6 passed in 3s" in said
    assert (place / "3.10-lowest" / "bin" / "python").exists()
    assert "torch==" in (place / "lowest.txt").read_text(encoding="utf-8")
    unbuilt = stand_in(tmp_path / "unbuilt", "== 1 passed in 3s ==", pip=1, version="3.10")
    monkeypatch.setenv("PYTHON_3_10", str(unbuilt))
    assert matrix.main(["--place", str(place), "--only", "3.10-lowest"]) == 1
    assert "the pip failed, see" in capsys.readouterr().out
