"""Zip archives: good ones are extracted, hostile and damaged ones leave nothing."""

from __future__ import annotations

import stat
import struct
import zipfile
from functools import partial
from pathlib import Path

import pytest

from avalanche_proxyfda.streams.files.archives import UnsafeArchive, extract, is_extracted


def made(path: Path, *members: tuple[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            opened.writestr(member, content)
    return path


def test_a_good_zip(tmp_path: Path) -> None:
    path = made(tmp_path / "x.zip", ("r/a/1.txt", b"one"), ("r/ü/2.txt", b"two"), ("r/b/", b""))
    into = extract(path, tmp_path / "out")
    assert (into / "r/a/1.txt").read_bytes() == b"one"
    assert (into / "r/ü/2.txt").read_bytes() == b"two" and (into / "r/b").is_dir()
    assert is_extracted(path, into)
    with pytest.raises(FileExistsError, match="is there already"):
        extract(path, into)


def test_what_a_mac_adds_is_left_out(tmp_path: Path) -> None:
    path = made(tmp_path / "x.zip", ("a/1", b"1"), ("__MACOSX/a/._1", b"2"), ("a/.DS_Store", b"3"))
    into = extract(path, tmp_path / "out")
    assert [p.relative_to(into).as_posix() for p in into.rglob("*") if p.name[0] != "."] == [
        "a",
        "a/1",
    ]


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("../out.txt", 0, "would be written outside"),
        ("/tmp/out.txt", 0, "would be written outside"),
        ("a/../../out.txt", 0, "would be written outside"),
        ("a\\..\\..\\out.txt", 0, "would be written outside"),
        ("C:/out.txt", 0, "would be written outside"),
        ("good.txt", 0, "is there twice"),
        (".extracted-from.json", 0, "called like our own mark"),
        ("a/link", stat.S_IFLNK | 0o777, "is a link or a device"),
        ("a/pipe", stat.S_IFIFO | 0o777, "is a link or a device"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_zips_leave_nothing(tmp_path: Path, name: str, mode: int, words: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path = made(folder / "x.zip", ("good.txt", b"good"), (name, b"/etc/passwd"), mode=mode)
    if mode:
        path = made(folder / "x.zip", (name, b"/etc/passwd"), mode=mode)
    with pytest.raises(UnsafeArchive, match=words):
        extract(path, folder / "out")
    assert [p.name for p in folder.iterdir()] == ["x.zip"]
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_bounds_encryption_and_lying_headers(tmp_path: Path) -> None:
    path = made(tmp_path / "x.zip", ("a.txt", b"0" * 5000), ("b.txt", b"1" * 10))
    bounded = partial(extract, path, tmp_path / "out")
    with pytest.raises(UnsafeArchive, match=r"more than .* GiB or 1000000 files"):
        bounded(max_bytes=100)
    with pytest.raises(UnsafeArchive, match="or 1 files"):
        bounded(max_files=1)
    whole = path.read_bytes()
    sizes = struct.pack("<L", 5000)
    path.write_bytes(whole.replace(sizes, struct.pack("<L", 50)))
    with pytest.raises(ValueError, match=r"x\.zip"):  # fewer bytes named than there are
        bounded()
    central = whole.rindex(b"PK\x01\x02", 0, whole.rindex(b"PK\x01\x02"))
    path.write_bytes(whole[: central + 8] + b"\x01\x00" + whole[central + 10 :])
    with pytest.raises(UnsafeArchive, match=r"'a.txt' is encrypted"):
        bounded()
    for cut in (10, 60, len(whole) - 5):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="is damaged, or no tar archive nor a zip"):
            bounded()
    path.write_bytes(whole[:45] + b"\xff\xff\xff" + whole[48:])
    with pytest.raises(ValueError, match="is damaged, or no tar archive nor a zip"):
        bounded()
    assert [p.name for p in tmp_path.iterdir()] == ["x.zip"]


def test_an_unknown_compression_is_named(tmp_path: Path) -> None:
    path = made(tmp_path / "x.zip", ("a.txt", b"0" * 50))
    whole = path.read_bytes()
    central = whole.rindex(b"PK\x01\x02")
    unknown = b"\x63\x00"  # 99, which zipfile lacks
    changed = whole[:8] + unknown + whole[10 : central + 10] + unknown + whole[central + 12 :]
    path.write_bytes(changed)
    with pytest.raises(ValueError, match=r"x\.zip cannot be unpacked here \(.*plain zip or tar"):
        extract(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["x.zip"]
