"""Writers on disks that are full or closed: the old file stays, and nothing is left beside it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from avalanche_proxyfda import _files
from avalanche_proxyfda._files import (
    remove_all_leftovers,
    remove_leftovers,
    replacing,
    write_bytes,
)
from avalanche_proxyfda.checkpoint import clean
from avalanche_proxyfda.checkpoint.files import LATEST, PREVIOUS
from benchmarks.execution.job import Job
from benchmarks.execution.settle import Settler
from benchmarks.results.files import read_record
from tests.benchmarks.records import failed, finished, recipe

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("where", ["write", "fsync", "chmod", "replace", "mkstemp"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_whatever_fails_the_old_file_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, number: int
) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    if where == "write":

        class Full:
            """A file that writes only half of its input."""

            def __init__(self, name: Path, mode: str) -> None:
                self.file = open(name, mode, encoding=None)  # noqa: SIM115 (__exit__ closes it)

            def __enter__(self) -> Full:
                return self

            def __exit__(self, *_: object) -> None:
                self.file.close()

            def write(self, content: bytes) -> None:
                self.file.write(content[: len(content) // 2])
                fail()

        monkeypatch.setattr(_files, "open", Full, raising=False)
    else:
        monkeypatch.setattr(tempfile if where == "mkstemp" else os, where, fail)
    with pytest.raises(OSError, match=rf"{os.strerror(number)}: .*a\.bin'") as caught:
        write_bytes(path, b"new" * 1000)
    assert caught.value.errno == number and caught.value.filename == str(path)
    monkeypatch.undo()
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_program_that_is_stopped_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a.bin", b"new")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("no folder", encoding="utf-8")
    with pytest.raises(OSError, match=r"a/b\.json"):
        write_bytes(tmp_path / "a" / "b.json", b"x")
    with pytest.raises(OSError, match=r"a/b/c\.json"):
        write_bytes(tmp_path / "a" / "b" / "c.json", b"x")


def test_what_killed_processes_have_left_goes_with_the_record(tmp_path: Path) -> None:
    job = Job(recipe("fda", strength=1.0), tmp_path)
    other = Job(recipe("fda", strength=3.0), tmp_path)
    own = job.checkpoint.parent
    job.checkpoint.mkdir(parents=True)
    torn = [
        job.folder / f".{job.file.name}-ab.tmp",
        own / ".model.safetensors-c.tmp",
        job.checkpoint / ".checkpoint.safetensors-d.tmp",
    ]
    others = job.folder / f".{other.file.name}-ab.tmp"
    for path in (*torn, others, job.checkpoint / "checkpoint.safetensors"):
        path.touch()
    Settler()(job, failed(job.config))
    assert (job.checkpoint / "checkpoint.safetensors").exists() and not torn[0].exists()
    Settler()(job, finished(job.config))
    assert not any(path.exists() for path in (*torn, own)) and others.exists()


def test_a_record_that_cannot_be_written_now_is_written_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = recipe("fda", strength=1.0)
    job, settler = Job(config, tmp_path), Settler()
    sync = os.fsync

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    settler(job, finished(config))
    assert "cannot be written now" in capsys.readouterr().err and not list(tmp_path.iterdir())
    with pytest.raises(OSError, match=f"No space left on device: .*{job.file.name}"):
        settler.finish()
    monkeypatch.setattr(os, "fsync", sync)
    settler.finish()
    assert read_record(job.file) == finished(config)


CHECK = """
import errno, sys
from pathlib import Path
from avalanche_proxyfda._files import write_bytes
folder, state = Path(sys.argv[1]), sys.argv[2]
path = folder / "a.json"
if state == "full":
    write_bytes(path, b"old")
for target in (path, folder / "b" / "c.bin"):
    try:
        write_bytes(target, bytes(1 << 20))
    except OSError as error:
        assert error.errno == {"full": errno.ENOSPC, "closed": errno.EROFS}[state], error
        assert error.filename == str(target), error
    else:
        sys.exit("it was written")
assert path.read_bytes() == b"old"
assert [p for p in folder.rglob("*") if p.is_file()] == [path]
print(state)
"""
ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size=256k none "$1"
"$0" -B -c "$2" "$1" full
mount -o remount,ro "$1"
"$0" -B -c "$2" "$1" closed
"""


def test_a_real_small_disk_that_is_full_and_then_closed(tmp_path: Path) -> None:
    """A file system in memory of 256 KiB, in a name space of its own, so without privileges."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    trial = [*alone, 'mount -t tmpfs -o size=256k none "$0"', str(tmp_path)]
    if subprocess.run(trial, capture_output=True).returncode:
        pytest.skip("this system gives no name spaces of mounts to its users")
    done = subprocess.run(
        [*alone, ON_A_SMALL_DISK, sys.executable, str(tmp_path), CHECK],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["full", "closed"]


def test_two_writers_and_a_cleaner_break_no_save(tmp_path: Path) -> None:
    folder, stop = tmp_path / "checkpoint", threading.Event()
    errors: list[OSError] = []

    def saves() -> None:
        for k in range(150):
            try:
                with replacing(folder / LATEST, previous=folder / PREVIOUS) as temporary:
                    temporary.write_bytes(bytes([k]) * 1000)
            except OSError as error:
                errors.append(error)

    def cleans() -> None:
        while not stop.is_set():
            clean(folder)

    cleaner = threading.Thread(target=cleans)
    writers = [threading.Thread(target=saves) for _ in range(2)]
    for thread in (cleaner, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    cleaner.join()
    assert errors == []


def test_a_leftover_goes_and_a_file_that_is_being_written_stays(tmp_path: Path) -> None:
    torn = tmp_path / ".a.json-torn.tmp"
    torn.touch()
    with replacing(tmp_path / "a.json") as temporary:
        temporary.write_bytes(b"whole")
        remove_leftovers(tmp_path / "a.json")
        remove_all_leftovers(tmp_path)
        assert temporary.exists() and not torn.exists()
    assert (tmp_path / "a.json").read_bytes() == b"whole" and len(list(tmp_path.iterdir())) == 1
