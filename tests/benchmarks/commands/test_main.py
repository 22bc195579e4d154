"""The command line: its jobs, its help, and words that are no job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__
from benchmarks.__main__ import COMMANDS, make_parser

ROOT = Path(__file__).parents[3]
NEEDED = {"sweep": ["--matrix", "a.yaml"]}


def test_every_job_declares_its_options_and_its_work() -> None:
    parser = make_parser()
    parsed = parser.parse_args(["sweep", "--matrix", "a.yaml"])
    assert parsed.job == "sweep" and parsed.work.__module__ == "benchmarks.commands.sweep"
    assert {command.module for command in COMMANDS.values()} == {
        f"benchmarks.commands.{path.stem}"
        for path in (ROOT / "benchmarks/commands").glob("*.py")
        if path.stem != "__init__"
    }


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['benchmarks', '--help']\n"
        "try:\n    runpy.run_module('benchmarks', run_name='__main__')\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "print('heavy:', sorted({'torch', 'avalanche', 'numpy', 'pydantic'} & {*sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.endswith("heavy: []\n")
    for job in COMMANDS:
        assert f"\n    {job} " in done.stdout


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("swep", "'swep' is unknown; did you mean 'sweep'? choose one of demo, run, sweep, "),
        ("zzzz", "'zzzz' is unknown; choose one of demo, run, sweep, "),
    ],
)
def test_an_unknown_job_names_the_nearest(
    word: str, answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", word, "--out", "x"])
    with pytest.raises(SystemExit) as end:
        __main__.main()
    assert end.value.code == 2 and answer in capsys.readouterr().err


def test_an_unknown_option_is_answered_with_the_usage_of_the_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "board", "runs", "--seed=3", "--nope"])
    with pytest.raises(SystemExit) as end:
        __main__.main()
    shown = capsys.readouterr().err
    assert end.value.code == 2 and shown.startswith("usage: python -m benchmarks board [-h]")
    assert "python -m benchmarks board: error: unrecognized arguments: --nope" in shown


@pytest.mark.parametrize(("job", "retry"), [("demo", True), ("run", True), ("sweep", False)])
def test_demo_run_and_sweep_share_one_resume_policy(job: str, retry: bool) -> None:
    parser, needed = make_parser([job]), [job, *NEEDED.get(job, [])]
    usual = parser.parse_args(needed)
    assert (usual.resume, usual.retry_failed) == (True, retry)
    for words, policy in (
        (["--no-resume"], (False, retry)),
        (["--resume", "--retry-failed"], (True, True)),
        (["--no-retry-failed"], (True, False)),
    ):
        asked = parser.parse_args([*needed, *words])
        assert (asked.resume, asked.retry_failed) == policy
