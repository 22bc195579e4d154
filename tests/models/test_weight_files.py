"""Weight files that were made to do harm: each is refused by name, and does nothing."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from avalanche_proxyfda.models import load_backbone, read_weights, weight_files
from benchmarks.models import tiny_clip
from benchmarks.reproduce.weights import tower_of

GOOD = {"visual.proj": torch.arange(6.0).reshape(2, 3)}


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.mark),))


def saved(found: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    torch.save(found, sink, **options)
    return sink.getvalue()


def old_tar(evil: Evil) -> bytes:
    """The format from before torch 0.2: a tar of pickles."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            content = pickle.dumps(evil, 2)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def swapped(evil: Evil) -> bytes:
    """A good file whose pickle was replaced."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(GOOD))) as good, zipfile.ZipFile(sink, "w") as bad:
        for name in good.namelist():
            own = pickle.dumps(evil, 2) if name.endswith("data.pkl") else good.read(name)
            bad.writestr(name, own)
    return sink.getvalue()


def program(evil: Evil) -> bytes:
    """A TorchScript archive, which is a program."""
    sink = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), sink)
    return sink.getvalue()


PICKLES: dict[str, Callable[[Evil], bytes]] = {
    "saved": saved,
    "among tensors": lambda evil: saved({**GOOD, "x": evil}),
    "as the state": lambda evil: saved({"state_dict": evil}),
    "before zip": lambda evil: saved({**GOOD, "x": evil}, _use_new_zipfile_serialization=False),
    "swapped": swapped,
    "plain": lambda evil: pickle.dumps(evil),
    "text": lambda evil: pickle.dumps(evil, 0),
    "tar": old_tar,
    "program": program,
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", PICKLES)
def test_code_in_weights_does_not_run(tmp_path: Path, kind: str) -> None:
    mark = tmp_path / "mark"
    content = PICKLES[kind](Evil(mark))
    for name in ("x.pt", "x.bin", "x.safetensors"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"weights='.*{name}' cannot be read as a state dict"):
            read_weights(path)
        with pytest.raises(ValueError, match=name):
            load_backbone("open_clip:RN50", path)
        with pytest.raises(ValueError, match=name):
            tiny_clip.load(path)
    with pytest.raises(ValueError, match=r"kept as model\.safetensors is no \.safetensors"):
        tower_of(content)
    assert not mark.exists()
    if kind in ("plain", "text"):
        pickle.loads(content)  # it is what it is said to be
        assert mark.exists()


def test_good_weights_are_read(tmp_path: Path) -> None:
    save_file(GOOD, tmp_path / "x.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in GOOD.items()}}, tmp_path / "x.pt")
    torch.save(GOOD, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("x.safetensors", "x.pt", "old.pt"):
        found = read_weights(tmp_path / name)
        assert found.keys() == GOOD.keys() and torch.equal(
            found["visual.proj"], GOOD["visual.proj"]
        )


def test_torch_that_cannot_be_trusted_with_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(GOOD, tmp_path / "x.pt")
    save_file(GOOD, tmp_path / "x.safetensors")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu124")
    with pytest.raises(
        ValueError, match=r"x\.pt.*CVE-2025-32434.*\.safetensors, or use torch 2\.6"
    ):
        read_weights(tmp_path / "x.pt")
    assert read_weights(tmp_path / "x.safetensors").keys() == GOOD.keys()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "it holds a list, not names and tensors"),
        (torch.ones(2), "it holds a Tensor, not names"),
        ({"a": 3}, "'a' is an int, not a tensor"),
        ({"state_dict": {"a": {"b": torch.ones(1)}}}, "'a' is a dict, not a tensor"),
    ],
)
def test_other_things_than_state_dicts(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=rf"x\.pt.*{words}"):
        read_weights(tmp_path / "x.pt")


def test_weights_that_would_fill_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    content = saved({"a": torch.zeros(4 << 20)})
    with (
        zipfile.ZipFile(io.BytesIO(content)) as whole,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name))
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"x\.pt.*compressed, and 16\d+ bytes when it is unpacked"):
        read_weights(path)


def crafted(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    """A ``.safetensors`` file with a header of our own."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(begin: int, end: int, shape: Any = (2,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HEADERS = {
    "empty": b"",
    "cut": save(GOOD)[:-1],
    "cut header": save(GOOD)[:20],
    "more": save(GOOD) + b"x",
    "long header": crafted({"a": entry(0, 8)}, bytes(8), 1 << 62),
    "negative header": crafted({"a": entry(0, 8)}, bytes(8), (1 << 64) - 1),
    "no header": crafted({"a": entry(0, 8)}, bytes(8), 0),
    "outside": crafted({"a": entry(0, 1 << 40, [1 << 38])}, bytes(8)),
    "before": crafted({"a": entry(-8, 8)}, bytes(8)),
    "backwards": crafted({"a": entry(8, 0)}, bytes(8)),
    "overlap": crafted({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
    "hole": crafted({"a": entry(0, 8), "b": entry(12, 20)}, bytes(20)),
    "shape": crafted({"a": entry(0, 8, [1 << 40, 1 << 40])}, bytes(8)),
    "type": crafted({"a": entry(0, 8, [1], "OBJ")}, bytes(8)),
    "no JSON": crafted(b"{" * 64, bytes(8)),
    "deep": crafted(b"[" * 100_000, bytes(8)),
    "list": crafted([1], bytes(8)),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_that_lie(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(HEADERS[kind])
    with pytest.raises(ValueError, match=r"x\.safetensors' cannot be read as a state dict"):
        read_weights(path)
    with pytest.raises(ValueError, match=r"kept as model\.safetensors is no \.safetensors file"):
        tower_of(HEADERS[kind])


def test_a_header_without_a_lie(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(crafted({"a": entry(0, 8)}, struct.pack("<ff", 1, 2)))
    assert read_weights(path)["a"].tolist() == [1, 2]
    assert weight_files.parse_weights(path.read_bytes(), path)["a"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("open_clip:RN50", {"pretrained": "PATH"}),
        ("open_clip:RN50", {"pretrained_image_path": "PATH"}),
        ("open_clip:RN50", {"weights_only": False}),
        ("open_clip:RN50", {"load_weights_only": False}),
        ("open_clip:RN50", {"jit": True}),
        ("timm:mobilenetv2_035", {"checkpoint_path": "PATH"}),
        ("timm:mobilenetv2_035", {"pretrained_cfg": {"file": "PATH"}}),
        ("timm:mobilenetv2_035", {"pretrained_cfg_overlay": {"file": "PATH"}}),
    ],
)
def test_options_cannot_make_a_library_read_weights(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(saved(Evil(tmp_path / "mark")))
    given = json.loads(json.dumps(options).replace("PATH", str(path)))
    with pytest.raises(ValueError, match=f"options: '{next(iter(options))}' decides which weights"):
        load_backbone(name, "random", options=given)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("start", ["local-dir:", "hf-hub:", "hf_hub:", "../", "/"])
@pytest.mark.parametrize("family", ["open_clip", "timm"])
def test_names_are_of_known_models_alone(tmp_path: Path, family: str, start: str) -> None:
    if family == "timm":
        pytest.importorskip("timm")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"is unknown; near ones"):
        load_backbone(f"{family}:{start}{tmp_path}")
