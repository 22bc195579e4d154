"""Downloads from a local server, and archives that try to get out."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from avalanche_proxyfda.streams.files import archives
from avalanche_proxyfda.streams.files import download as downloads
from avalanche_proxyfda.streams.files.archives import UnsafeArchive, extract, is_extracted
from avalanche_proxyfda.streams.files.download import download

CONTENT = bytes(range(256)) * 5000
SHA = hashlib.sha256(CONTENT).hexdigest()


class Files(BaseHTTPRequestHandler):
    """Serves CONTENT; breaks off once at /broken, ignores ranges at /plain."""

    asked: ClassVar[list[str | None]] = []
    broken = True

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        Files.asked.append(wanted)
        if self.path == "/absent":
            self.send_error(404, "Not Found")
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if self.path == "/plain":
            start = 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if start:
            shift = 7 if self.path == "/shifted" else 0
            self.send_header("Content-Range", f"bytes {start - shift}-{len(CONTENT) - 1}/*")
        self.end_headers()
        end = len(CONTENT)
        if self.path == "/broken" and Files.broken:
            Files.broken, end = False, 100_000
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Files.asked, Files.broken = [], True
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_a_download_is_checked_and_not_repeated(server: str, tmp_path: Path) -> None:
    path = tmp_path / "a" / "x.tar"
    assert download(f"{server}/x", path, sha256=SHA) == path
    assert path.read_bytes() == CONTENT and list(path.parent.iterdir()) == [path]
    download(f"{server}/x", path, md5=hashlib.md5(CONTENT).hexdigest())
    assert Files.asked == [None]


def test_a_download_that_broke_off_goes_on(server: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with pytest.raises(OSError, match=r"was interrupted|IncompleteRead|retrieval incomplete"):
        download(f"{server}/broken", path, sha256=SHA)
    assert not path.exists() and (tmp_path / "x.tar.part").stat().st_size == 100_000
    download(f"{server}/broken", path, sha256=SHA)
    assert path.read_bytes() == CONTENT and Files.asked == [None, "bytes=100000-"]


def test_a_server_that_cannot_resume_sends_all_again(server: str, tmp_path: Path) -> None:
    (tmp_path / "x.tar.part").write_bytes(b"something else")
    download(f"{server}/plain", tmp_path / "x.tar", sha256=SHA)
    assert (tmp_path / "x.tar").read_bytes() == CONTENT


def test_a_server_that_answers_another_range_is_not_believed(server: str, tmp_path: Path) -> None:
    (tmp_path / "x.tar.part").write_bytes(CONTENT[:1000])
    with pytest.raises(OSError, match="does not send the requested bytes"):
        download(f"{server}/shifted", tmp_path / "x.tar", sha256=SHA)
    assert (tmp_path / "x.tar.part").read_bytes() == CONTENT[:1000]


def test_a_part_that_is_complete_only_has_to_be_checked(server: str, tmp_path: Path) -> None:
    (tmp_path / "x.tar.part").write_bytes(CONTENT)
    download(f"{server}/x", tmp_path / "x.tar", sha256=SHA)
    assert (tmp_path / "x.tar").read_bytes() == CONTENT


def test_downloads_that_must_not_be_used(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.tar"
    with pytest.raises(ValueError, match="give sha256 or md5"):
        download(f"{server}/x", path)
    with pytest.raises(ValueError, match=f"its sha256 is {SHA}, not 00"):
        download(f"{server}/x", path, sha256="00")
    assert not list(tmp_path.iterdir())  # a wrong file is not gone on with
    with pytest.raises(OSError, match="answers 404"):
        download(f"{server}/absent", path, sha256=SHA)
    with pytest.raises(OSError, match=r"cannot be reached.*put it at .*x.tar"):
        download("http://127.0.0.1:1/x", path, sha256=SHA)
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda p: usage)
    with pytest.raises(OSError, match="has 10 left"):
        download(f"{server}/x", path, sha256=SHA)
    assert not path.exists()


def archive(path: Path, *members: tuple[str, Any]) -> Path:
    """A tar of (name, bytes), (name, "dir") or (name, TarInfo type)."""
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes) and len(content) != 1:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
                continue
            member.type = tarfile.DIRTYPE if content == "dir" else content
            member.linkname = "/etc/passwd"
            tar.addfile(member)
    return path


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_a_good_archive(tmp_path: Path, ending: str) -> None:
    made = archive(
        tmp_path / f"x.{ending}", ("r", "dir"), ("r/a/1.txt", b"one"), ("r/b/2.txt", b"two!")
    )
    into = extract(made, tmp_path / "out")
    assert (into / "r/a/1.txt").read_bytes() == b"one" and (into / "r/b/2.txt").stat().st_size == 4
    assert is_extracted(made, into) and not is_extracted(made, tmp_path / "other")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", f"x.{ending}"]
    with pytest.raises(FileExistsError, match="is there already"):
        extract(made, tmp_path / "out")


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (("../out.txt", b"evil"), "would be written outside"),
        (("/tmp/out.txt", b"evil"), "would be written outside"),
        (("a/../../out.txt", b"evil"), "would be written outside"),
        (("a\\..\\..\\out.txt", b"evil"), "would be written outside"),
        (("a/link", tarfile.SYMTYPE), "is a link or a device"),
        (("a/hard", tarfile.LNKTYPE), "is a link or a device"),
        (("a/pipe", tarfile.FIFOTYPE), "is a link or a device"),
        (("good.txt", b"again"), "is there twice"),
    ],
)
def test_hostile_archives_leave_nothing(tmp_path: Path, member: Any, words: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    made = archive(folder / "x.tar", ("good.txt", b"good"), member)
    with pytest.raises(UnsafeArchive, match=words):
        extract(made, folder / "out")
    assert [p.name for p in folder.iterdir()] == ["x.tar"]
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_archives_that_end_too_early_or_changed_on_the_way(tmp_path: Path) -> None:
    files = [(f"{k}.txt", bytes([k]) * 700) for k in range(1, 20)]
    whole = archive(tmp_path / "x.tar", *files).read_bytes()
    packed = bytearray(archive(tmp_path / "x.tar.gz", *files).read_bytes())
    for end in (1536 * 7, 1536 * 7 + 300, 1536 * 7 + 512, 1536 * 7 + 900):  # members take 3 blocks
        (tmp_path / "cut.tar").write_bytes(whole[:end])
        with pytest.raises(ValueError, match="is damaged"):
            extract(tmp_path / "cut.tar", tmp_path / "out")
    (tmp_path / "cut.tar.gz").write_bytes(packed[: len(packed) - 10])
    packed[-6] ^= 1  # the sum of the content
    (tmp_path / "bad.tar.gz").write_bytes(packed)
    for name in ("cut.tar.gz", "bad.tar.gz"):
        with pytest.raises((ValueError, OSError)):
            extract(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_archive_is_not_taken_for_this_one(tmp_path: Path) -> None:
    made = archive(tmp_path / "x.tar", ("a.txt", b"12345"))
    extract(made, tmp_path / "out")
    archive(made, ("a.txt", b"12345"), ("b.txt", b"67890"))
    with pytest.raises(ValueError, match=r"out was not extracted from .*x.tar as it stands"):
        is_extracted(made, tmp_path / "out")


def test_bounds_damage_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = archive(tmp_path / "x.tar", ("a.txt", b"12345"), ("b.txt", b"67890"))
    bounded = partial(extract, made, tmp_path / "out")
    with pytest.raises(UnsafeArchive, match=r"more than .* GiB or 1000000 files"):
        bounded(max_bytes=9)
    with pytest.raises(UnsafeArchive, match="or 1 files"):
        bounded(max_files=1)
    (tmp_path / "cut.tar").write_bytes(made.read_bytes()[:700])
    (tmp_path / "no.tar").write_text("no archive", encoding="utf-8")
    for name in ("cut.tar", "no.tar"):
        with pytest.raises(ValueError, match="is damaged, or no tar archive"):
            extract(tmp_path / name, tmp_path / "out")
    usage = shutil.disk_usage(tmp_path)._replace(free=5)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda p: usage)
    with pytest.raises(OSError, match=r"needs 0.00 GiB, but"):
        bounded()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.tar", "no.tar", "x.tar"]
