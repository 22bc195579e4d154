"""A command checks options and configurations without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
RECORD = min((ROOT / "docs/board/records").rglob("*.json")).relative_to(ROOT)
PROGRAM = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from benchmarks.__main__ import COMMANDS, main, make_parser

HEAVY = ("torch", "avalanche", "torchvision", "open_clip", "timm")

def said(words):
    sys.argv, text = ["benchmarks", *words], io.StringIO()
    with redirect_stdout(text), redirect_stderr(text):
        try:
            status = main()
        except SystemExit as end:
            status = end.code
    return status, text.getvalue(), [name for name in HEAVY if name in sys.modules]

make_parser()
json.dump([said(words) for words in json.load(sys.stdin)], sys.stdout)
"""
HELP = [[*words, "--help"] for words in ([], *([job] for job in ("demo", "run", "sweep", "board")))]
HELP += [[job, "--help"] for job in ("published", "rerun", "features", "export", "perf", "accept")]
HELP += [["perf", what, "--help"] for what in ("overhead", "memory", "operations", "scaling")]
HELP += [["perf", what, "--help"] for what in ("input", "cache", "page")]
CONCEPTS = ("run", "--config", "concepts.yaml")
REFUSED = (
    ((*CONCEPTS, "--nope"), "run: error: unrecognized arguments: --nope"),
    ((*CONCEPTS, "--methods", "fdaa"), "method='fdaa' is unknown; did you mean 'fda'?"),
    ((*CONCEPTS, "--set", "train.epoch=1"), "did you mean 'train.epochs'?"),
    ((*CONCEPTS, "--set", "train.epochs=x"), "train.epochs='x'"),
    ((*CONCEPTS, "--dry-run", "--set", "head.templates=[foo]"), "head.templates: the template"),
    ((*CONCEPTS, "--seeds", "1", "1"), "each may be given once"),
    ((*CONCEPTS, "--jobs", "0"), "--jobs 0: at least one"),
    (("run", "--config", "concept.yaml"), "concepts.yaml"),
    (("run",), "give --config RECIPE, or --data with folders of photographs"),
    (("run", "--data", "nowhere/pets"), "nowhere/pets is not there"),
    ((*CONCEPTS, "--seeds", "1", "--set", "seed=5"), "--set seed: --seeds sets it too; drop one"),
    (
        (*CONCEPTS, "--methods", "fda", "--strengths", "1", "--set", "strength=3"),
        "--set strength: --strengths sets it too; drop one of the two",
    ),
    (
        (*CONCEPTS, "--on-corrupt", "drop", "--set", "stream.on_corrupt=raise"),
        "--set stream.on_corrupt: --on-corrupt sets it too; drop one of the two",
    ),
    (
        (*CONCEPTS, "--set", "train.lr=1e-4", "--set", "train.lr=1e-3"),
        "--set 'train.lr=1e-3': train.lr is given twice; drop one of the two",
    ),
    (
        (*CONCEPTS, "--methods", "lp-ft", "frozen", "--strengths", "3"),
        "--strengths: no strength in lp-ft, frozen; drop --strengths, or add one of the methods "
        "with a strength: l2sp, ",
    ),
    ((*CONCEPTS, "--scan", "--dry-run"), "--scan and --dry-run each stop before the training"),
    (("demo", "--chosen", "--strengths", "7"), "--strengths: --chosen runs the recipe's strength"),
    (("demo", "--methods", "lp-ft", "--strengths", "3"), "--strengths: no strength in lp-ft; drop"),
    (
        ("demo", "--full", "--chosen", "--methods", "fda"),
        "--full: --methods names the methods, and --chosen the strengths; drop --full",
    ),
    (
        ("demo", "--full", "--strengths", "1", "--methods", "fda"),
        "--full: --methods names the methods, and --strengths the strengths; drop --full",
    ),
    (
        ("sweep", "--matrix", "concepts.yaml", "--task", "0", "--jobs", "7"),
        "--jobs 7: --task 0 is one run; drop --jobs",
    ),
    (
        ("sweep", "--matrix", "concepts.yaml", "--task", "0", "--engine", "ray"),
        "--engine ray: --task 0 runs in this process; drop one of them",
    ),
    (
        ("sweep", "--matrix", "concepts.yaml", "--engine", "ray", "--jobs", "7"),
        "--jobs 7: Ray decides; drop --jobs",
    ),
    (
        ("rerun", str(RECORD), "--data", "a", "--set", "where.data=b"),
        "--set where.data: --data sets it too; drop one of the two",
    ),
    (
        (*CONCEPTS, "--strengths", "1", "x"),
        "run: error: argument --strengths: 'x' is neither a number nor auto",
    ),
    (("demo", "--strengths", "x"), "argument --strengths: 'x' is neither a number nor auto"),
    (("demo", "--methods", "nope"), "argument --methods: invalid choice: 'nope'"),
    (("demo", "--strengths", "-1"), "strengths=-1.0 must be finite and not negative"),
    (("sweep", "--matrix", "concept.yaml"), "did you mean 'concepts.yaml'?"),
    (("sweep", "--matrix", "concepts.yaml", "--task", "99999"), "--task 99999: the sweep has"),
    (("rerun", "nothing.json"), "error: nothing.json is not there: give one record, such as run"),
    (
        ("rerun", str(RECORD.with_name(f"x{RECORD.name}"))),
        f"is not there: give one record, such as {RECORD}",
    ),
    (("rerun", str(RECORD), "--set", "train.lr=1"), "--set train.lr: it makes another run"),
    (("rerun", str(RECORD), "--set", "where.nope=1"), "'where.nope' is not a key"),
    (("features", "--run", "nothing.json"), "--run nothing.json is not there: give one record"),
    (
        ("features", "--run", str(RECORD.parent)),
        f"--run {RECORD.parent} is a folder: give one record, such as {RECORD}",
    ),
    (("features", "--run", str(RECORD), "--images", "0"), "--images 0: at least one"),
    (("features", "--run", str(RECORD), "--set", "nope"), "--set 'nope' names no set of the run"),
    (
        ("export", "nothing.json"),
        "error: nothing.json is not there: give one record, such as run",
    ),
    (("export", str(RECORD.parent)), f"is a folder: give one record, such as {RECORD}"),
    (
        ("export", f"{RECORD}/a.json"),
        f"error: {RECORD}/a.json cannot be read (Not a directory): give the record of a finished",
    ),
    (
        ("board", str(RECORD), "--out", f"{RECORD}/board"),
        f"--out {RECORD}/board: nothing can be written to this folder ({RECORD} is a file); give a "
        "folder that can be made or written with --out DIR",
    ),
    (
        ("published", "--out", "docs"),
        "--out docs: this file cannot be written (it is a folder); give a file in a folder that ",
    ),
    (
        ("published", "--out", f"{RECORD}/published.md"),
        f"--out {RECORD}/published.md: this file cannot be written ({RECORD} is a file); give a ",
    ),
    (("export", str(RECORD), "--place", "a"), "--place 'a': give NAME=PATH, as in pets="),
    (("accept", "--only", "los"), "--only los: the groups are environment, losses, training,"),
    (("perf", "memory", "--losses", "nope"), "argument --losses: invalid choice: 'nope'"),
)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Function that returns status, text and heavy libraries of a command; one process for all."""
    out = str(tmp_path_factory.mktemp("sweep"))
    lists = [
        ["sweep", "--matrix", name, "--list", "--out", out]
        for name in ("concepts.yaml", "real_images_few.yaml")
    ]
    asked = [*HELP, *lists, *([*words] for words, _ in REFUSED)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        input=json.dumps(asked),
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return {
        tuple(words): answer for words, answer in zip(asked, json.loads(done.stdout), strict=True)
    }


def test_help_of_every_command_loads_no_torch(answers: Any) -> None:
    for words in HELP:
        status, text, heavy = answers[tuple(words)]
        assert (status, heavy) == (0, []), words
        assert text.startswith("usage: python -m benchmarks") and "options:" in text


def test_the_list_of_a_sweep_loads_no_torch(answers: Any) -> None:
    lists = {words[2]: answer for words, answer in answers.items() if "--list" in words}
    assert list(lists) == ["concepts.yaml", "real_images_few.yaml"]
    for status, text, heavy in lists.values():
        assert (status, heavy) == (0, [])
        lines = text.splitlines()
        assert len(lines) > 10 and all(line.endswith(": absent") for line in lines)
        assert [int(line.split()[0]) for line in lines] == list(range(len(lines)))


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_refusal_loads_no_torch(answers: Any, words: tuple[str, ...], message: str) -> None:
    status, text, heavy = answers[words]
    assert (status, heavy) == (2, [])
    assert message in text and "Traceback" not in text


def test_a_reader_that_stops_early_is_no_error() -> None:
    """As ``| head`` does: the pipe is closed before the list of runs is written."""
    words = [sys.executable, "-m", "benchmarks", "sweep", "--matrix", "concepts.yaml", "--list"]
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
