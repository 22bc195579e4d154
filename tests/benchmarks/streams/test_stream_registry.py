"""The registry of stream kinds: its modules, and what it refuses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks.config import Config
from benchmarks.config.streams import KINDS as CONFIGURED
from benchmarks.streams.panel import scan_panel
from benchmarks.streams.registry import KINDS, check_kinds, load_kinds, load_stream, scan_images
from benchmarks.streams.views import Views
from tests.benchmarks import miniature
from tests.benchmarks.records import recipe

BUILD, SCAN = "def build(config, views): ...\n", "def scan(config): return 0, {}\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder of an empty package of kinds, ``streams_of_a_test``."""
    folder = tmp_path / "streams_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


def load(folder: Path) -> dict[str, ModuleType]:
    return load_kinds(import_module(folder.name))


def test_every_configured_kind_has_a_module_and_vice_versa() -> None:
    assert set(KINDS) == set(CONFIGURED) >= {"concepts", "sequence", "imagenet-r"}


def test_a_complete_module_is_a_kind(package: Path) -> None:
    (package / "one_more.py").write_text(BUILD + SCAN, encoding="utf-8")
    assert list(load(package)) == ["one-more"]


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (BUILD, "no function scan"),
        (SCAN, "no function build"),
        (BUILD + "scan = 3", "scan"),
        ("", "no function build and no function scan"),
    ],
)
def test_an_incomplete_module_is_refused(package: Path, content: str, missing: str) -> None:
    (package / "half.py").write_text(content, encoding="utf-8")
    with pytest.raises(ImportError, match=rf"streams_of_a_test\.half has .*{missing}"):
        load(package)


def test_a_kind_needs_both_a_module_and_a_dataclass() -> None:
    check_kinds(("a", "b-c"), ("b-c", "a"))
    with pytest.raises(ImportError, match=r"'b-c' has no module .*/kinds/b_c\.py"):
        check_kinds(("a",), ("a", "b-c"))
    with pytest.raises(ImportError, match=r"'b' has no dataclass with kind: Literal\['b'\]"):
        check_kinds(("a", "b"), ("a",))


def test_streams_are_dispatched_by_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []

    class Fake:
        def __init__(self, kind: str) -> None:
            self.kind = kind

        def build(self, config: Config, views: Views) -> str:
            calls.append(f"build {config.stream.kind}")
            return self.kind

        def scan(self, config: Config) -> tuple[int, dict[str, str]]:
            calls.append(f"scan {config.stream.kind}")
            return 3, {"a": "broken"}

    for kind in tuple(KINDS):
        monkeypatch.setitem(KINDS, kind, Fake(kind))
    views: Any = None
    streams = {
        "concepts": {"kind": "concepts"},
        "sequence": {"kind": "sequence", "sets": ["folder:a"]},
        "imagenet-r": {"kind": "imagenet-r"},
    }
    for kind, stream in streams.items():
        config = miniature.config(tmp_path, stream=stream, panel={"sets": ["colours"]})
        assert load_stream(config, views) == kind
        assert scan_images(config) == (3, {"a": "broken"})  # the panel has embedded sets alone
    assert calls == [f"{act} {kind}" for kind in streams for act in ("build", "scan")]


def test_the_scan_of_a_panel_names_sets_that_are_like_an_unknown_one() -> None:
    config = recipe("ldifs", panel__sets=["latn"])
    with pytest.raises(
        ValueError, match=r"panel.sets: name='latn' .* near ones: latin; give one of"
    ):
        scan_panel(config)
