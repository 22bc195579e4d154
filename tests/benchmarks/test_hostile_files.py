"""Files that were made to do harm: each is refused in one line that names it, and does nothing."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avalanche_proxyfda._yaml import read_yaml
from avalanche_proxyfda.streams.files import archives, packs
from avalanche_proxyfda.streams.files.archives import UnsafeArchive, extract, is_extracted
from avalanche_proxyfda.streams.files.images import UnreadableImage, decode, load_rgb, scan
from avalanche_proxyfda.streams.files.packs import read_pack
from avalanche_proxyfda.streams.imagenet_r_splits import coda
from benchmarks.config import load_recipe, parse_overrides
from benchmarks.execution.matrix import load_matrix
from benchmarks.results.files import RefusedRecordError, collect, read_record
from tests.streams.test_archives import archive
from tests.streams.test_datasets import pack


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.mark),))


# ---- YAML -------------------------------------------------------------------------------

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = [
    ("[" * 100_000, "nested more than 50 deep"),  # libyaml's own recursion crashes the process
    ("{a: " * 10_000, "nested more than 50 deep"),
    ("- " * 10_000, "nested more than 50 deep"),
    (LAUGHS, r"the alias \*a is not read"),
    ("seed: &a [*a]", r"the alias \*a is not read"),
    ("seed: !!python/object/apply:os.mkdir [MARK]", "could not determine a constructor"),
    ("seed: !!bool maybe", "maybe"),
    ("seed: !!int ''", "is no int of YAML 1.2"),
    ("seed: !!timestamp 2020-01-01", "could not determine a constructor for .*timestamp"),
    ("seed: " + "1" * 5000, "limit"),
    ("seed: \x00", "not allowed"),
]


@pytest.mark.parametrize(("text", "words"), YAML, ids=[words for _, words in YAML])
def test_yaml(tmp_path: Path, text: str, words: str) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "x.yaml"
    path.write_text(text.replace("MARK", str(mark)), encoding="utf-8")
    for reader in (load_recipe, lambda p: load_matrix(str(p))):
        with pytest.raises(ValueError, match=words) as caught:
            reader(path)
        assert str(caught.value).startswith("x.yaml is not YAML")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    with pytest.raises(ValueError, match=f"--set .seed=.*{words}"):
        parse_overrides([f"seed={text.replace('MARK', str(mark))}"])
    assert not mark.exists()


def test_yaml_that_is_no_text_or_too_long(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"x.yaml is not YAML"):
        load_recipe(tmp_path / "x.yaml")
    with pytest.raises(ValueError, match="characters are more than"):
        read_yaml("# " + " " * (16 << 20))
    assert read_yaml("a: [1, {b: 2.5}]\nc: null") == {"a": [1, {"b": 2.5}], "c": None}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "train.yaml is not YAML: it is nested"),
        (f"{LAUGHS}data: *i\ntargets: [0]", "train.yaml is not YAML: the alias"),
        ("data: 3\ntargets: [0]", "'data' must be a list of str"),
        ("data: [[[a, b], c]]\ntargets: [0]", "'data' must be a list of str"),
        ("data: [a/b]\ntargets: [yes]", "'targets' must be a list of int"),
        ("data: [../../n10000000/../../x]\ntargets: [0]", "which is not its class's"),
        ("data: [n10000000/..]\ntargets: [0]", "1 files are not under"),
        ("data: [nothing]\ntargets: [0]", "which is not its class's"),
    ],
)
def test_lists_of_a_split(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "r" / "n10000000").mkdir(parents=True)
    for name in ("train", "test"):
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    lists = (tmp_path / "train.yaml", tmp_path / "test.yaml")
    with pytest.raises(ValueError, match=words):
        coda(tmp_path / "r", lists, classes=1, counts=None)


# ---- archives ---------------------------------------------------------------------------


def header(name: str, kind: bytes, size: int) -> bytes:
    """A member's header alone, whatever it promises."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def attributes(member: bytes, **values: str) -> bytes:
    """PAX attributes before a member; tarfile takes its size and name from them."""
    body = b"".join(
        (f"{len(line) + 3} " if len(line) + 3 < 100 else f"{len(line) + 4} ").encode() + line
        for line in (f"{k}={v}\n".encode() for k, v in values.items())
    )
    return (
        header("p", tarfile.XHDTYPE, len(body))
        + body.ljust(-(-len(body) // 512) * 512, b"\0")
        + member
    )


END = b"\0" * 1024
FILE = header("a.txt", tarfile.REGTYPE, 0)
TARS: list[tuple[str, bytes, str]] = [
    ("endless long name", header("x", tarfile.GNUTYPE_LONGNAME, 8 << 30), "a header of 8589934592"),
    ("endless attributes", header("x", tarfile.XHDTYPE, 8 << 30), "a header of 8589934592"),
    ("negative size", header("x", tarfile.REGTYPE, -512), "bytes"),
    ("negative attribute", attributes(FILE, size="-512"), "-512|damaged"),
    ("sparse", header("x", tarfile.GNUTYPE_SPARSE, 512), "sparse"),
    ("climbing attribute", attributes(FILE, path="../../x"), "would be written outside"),
    ("absolute attribute", attributes(FILE, path="/x"), "would be written outside"),
    ("device", header("x", tarfile.BLKTYPE, 0), "a link or a device"),
    ("terminal", header("x", tarfile.CHRTYPE, 0), "a link or a device"),
    ("promise", header("x", tarfile.REGTYPE, 1 << 50), "more than 20.0 GiB"),
    ("our mark", header(archives.MARK, tarfile.REGTYPE, 0), "called like our own mark"),
    ("below our mark", header(f"{archives.MARK}/x", tarfile.REGTYPE, 0), "like our own mark"),
    ("file and folder", FILE + header("a.txt/b", tarfile.REGTYPE, 0), "damaged"),
    ("turtles", attributes(b"", comment="x") * 3000 + FILE, "damaged"),
]


@pytest.mark.parametrize(("content", "words"), [t[1:] for t in TARS], ids=[t[0] for t in TARS])
@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_archives(tmp_path: Path, content: bytes, words: str, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    path.write_bytes(gzip.compress(content + END, 1) if ending == "tar.gz" else content + END)
    with pytest.raises(ValueError, match=f"x.{ending}.*{words}"):
        extract(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_archive_that_goes_on_after_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(FILE + END + bytes(70 << 20), 1))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(UnsafeArchive, match="more than 64 MiB come after its end mark"):
        extract(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("mark", [b"", b"\xff", b"[" * 100_000, b"{}"])
def test_a_mark_that_is_none(tmp_path: Path, mark: bytes) -> None:
    made = archive(tmp_path / "x.tar", ("a.txt", b"12345"))
    (extract(made, tmp_path / "out") / archives.MARK).write_bytes(mark)
    with pytest.raises(ValueError, match="was not extracted from"):
        is_extracted(made, tmp_path / "out")


# ---- packs ------------------------------------------------------------------------------


def repacked(path: Path, **changes: Any) -> Path:
    content = dict(np.load(pack(path)))
    np.savez(path, **{**content, **changes})
    return path


def shaped(count: int) -> bytes:
    """An array of NumPy's that says it has ``count`` numbers, and has none."""
    sink = io.BytesIO()
    said = {"descr": "|u1", "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(sink, said)
    return sink.getvalue()


def test_pickles_in_a_pack_do_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "a.npz"
    evil = np.array([Evil(mark)], dtype=object)
    for key in ("class_names", "train_buf", "train_y", "test_off", "meta"):
        with pytest.raises(ValueError, match=r"a\.npz is no pack of images: .*allow_pickle"):
            read_pack(repacked(path, **{key: evil}))
    for content in (pickle.dumps(Evil(mark)), pickle.dumps(Evil(mark), 0)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz is no pack of images"):
            read_pack(path)
    assert not mark.exists()
    pickle.loads(content)  # it is what it is said to be
    assert mark.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_buf": np.zeros(30)}, r"train_buf is float64 \[30\]"),
        ({"train_buf": np.zeros((2, 2), np.uint8)}, r"train_buf is uint8 \[2, 2\]"),
        ({"train_off": np.array(0)}, r"train_off is int64 \[\]"),
        ({"train_y": np.full(30, np.nan)}, "train_y is float64"),
        ({"class_names": np.arange(3)}, "class_names is int64"),
        ({"meta": np.array("[" * 100_000)}, "recursion"),
        ({"meta": np.array("[1]")}, "its meta is no JSON object"),
        ({"meta": np.array("{")}, "Expecting property name"),
    ],
)
def test_packs_of_other_types(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.npz is no pack of images: .*{words}"):
        read_pack(repacked(tmp_path / "a.npz", **changes))


def test_packs_that_would_fill_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "a.npz")
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    for count in (1 << 30, 1 << 60):
        with zipfile.ZipFile(path, "w") as lying:
            for name, content in {**members, "train_buf.npy": shaped(count)}.items():
                lying.writestr(name, content)
        with pytest.raises(ValueError, match=r"a\.npz is no pack of images"):
            read_pack(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name, content in {**members, "more.npy": bytes(9 << 20)}.items():
            bomb.writestr(name, content)
    read_pack(path)
    monkeypatch.setattr(packs, "MAX_BYTES", 8 << 20)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ValueError, match=r"a\.npz .* when it is unpacked are more than 8388608"):
        read_pack(path)


# ---- images -----------------------------------------------------------------------------

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(mark) (w) file\n"


def test_postscript_is_never_interpreted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    def interpreted(*_: Any, **__: Any) -> None:
        raise AssertionError("Ghostscript would have run")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", interpreted)
    path = tmp_path / "x.jpg"
    path.write_bytes(POSTSCRIPT)
    with pytest.raises(AssertionError, match="would have run"), Image.open(path) as opened:
        opened.load()  # what PIL does by itself
    with pytest.raises(UnreadableImage, match=r"x\.jpg: cannot identify image file"):
        load_rgb(path)


def test_photographs_of_two_pictures_are_read(tmp_path: Path) -> None:
    first = Image.new("RGB", (9, 7), (200, 10, 10))
    first.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[first])
    assert load_rgb(tmp_path / "x.jpg").size == (9, 7)


def test_an_image_that_says_it_is_huge(tmp_path: Path) -> None:
    """A PNG of a few bytes that would take gigabytes, at any of PIL's own limits."""
    sink = io.BytesIO()
    Image.new("L", (1, 1)).save(sink, "PNG")
    content = bytearray(sink.getvalue())
    for side, words in ((9_000, "81000000 |9000 x 9000 are more than"), (60_000, "exceeds limit")):
        content[16:24] = struct.pack(">II", side, side)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(UnreadableImage, match=words):
            load_rgb(tmp_path / "x.png")


@pytest.mark.filterwarnings("ignore")
def test_changed_bytes_are_an_image_or_refused() -> None:
    chance, whole = random.Random(0), []
    pixels = np.random.default_rng(0).integers(0, 255, (12, 10, 3), dtype=np.uint8)
    for mode, kind in (
        ("RGB", "JPEG"),
        ("P", "PNG"),
        ("RGB", "TIFF"),
        ("P", "GIF"),
        ("RGB", "WEBP"),
        ("RGB", "BMP"),
        ("RGB", "PPM"),
    ):
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "words"
        options = {"exif": exif} if kind in ("JPEG", "PNG", "TIFF", "WEBP") else {}
        sink = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(sink, kind, **options)
        whole.append(sink.getvalue())
    refused = 0
    for _ in range(3000):
        content = bytearray(chance.choice(whole))
        for _ in range(chance.choice((1, 2, 16))):
            content[chance.randrange(min(len(content), 250))] = chance.choice(
                (0, 255, chance.randrange(256))
            )
        try:
            assert decode(io.BytesIO(content), "x").mode == "RGB"
        except UnreadableImage:
            refused += 1
    assert 300 < refused < 2900


def test_what_pil_raises_for_hostile_attributes_is_refused(tmp_path: Path) -> None:
    """An orientation that is no number: PIL raises TypeError or struct.error for such."""
    exif = Image.Exif()
    exif[0x0112] = 6
    sink = io.BytesIO()
    Image.new("RGB", (9, 7)).save(sink, "JPEG", exif=exif)
    whole, failed = sink.getvalue(), 0
    start = whole.index(b"Exif\0\0") + 6
    for at in range(start, start + 26):
        for value in (0, 1, 2, 5, 10, 12, 255):
            content = bytearray(whole)
            content[at] = value
            (tmp_path / "x.jpg").write_bytes(content)
            failed += bool(scan([tmp_path / "x.jpg"], workers=1))
    assert failed < 26 * 7  # most are read, none stops the scan


@pytest.mark.parametrize("make", [os.mkfifo, lambda p: os.symlink("/dev/zero", p)])
def test_pipes_and_devices_are_no_images_and_no_records(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "x.jpg")
    with pytest.raises(UnreadableImage, match=r"x\.jpg: the file is empty"):
        load_rgb(tmp_path / "x.jpg")
    make(tmp_path / "x.json")
    with pytest.raises(RefusedRecordError, match="a pipe or a device"):
        read_record(tmp_path / "x.json")
    assert collect([tmp_path]).refused == {"x.json": "it is a pipe or a device"}


# ---- records ----------------------------------------------------------------------------


def test_a_record_of_gigabytes(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(65 << 20)  # takes no room on the disk
    with pytest.raises(RefusedRecordError, match="a record has 67108864 at most"):
        read_record(tmp_path / "x.json")


def test_a_record_cannot_choose_where_files_go(tmp_path: Path) -> None:
    """Names of files begin with the method, which is one of those that there are."""
    from dataclasses import replace

    from benchmarks.reproduce.from_record import config_of
    from benchmarks.results.identity import run_id_of
    from tests.benchmarks.records import finished, recipe

    record = finished(recipe("fda", strength=1.0))
    config = json.loads(json.dumps(record.how.config))
    config["method"] = "../../../../x"
    how = replace(record.how, config=config)
    moved = replace(record, how=how, run_id=run_id_of(config))
    with pytest.raises(ValueError, match=r"method='../../../../x' is unknown"):
        config_of(moved)
