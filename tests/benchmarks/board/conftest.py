"""A browser, and a page of the board with everything that can be wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.board.model import make_board
from benchmarks.board.page import page as render
from benchmarks.board.write import current_versions
from benchmarks.results.files import collect
from tests.benchmarks.board.board_records import troubled
from tests.benchmarks.board.visits import SHOTS

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def without_browser(reason: str) -> None:
    """Skip, unless a browser was promised."""
    if os.environ.get("REQUIRE_BROWSER"):
        pytest.fail(f"REQUIRE_BROWSER is set, but {reason}")
    pytest.skip(f"the page was not tried in a browser: {reason}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        without_browser(f"none of {', '.join(NAMES)} is installed, and BROWSER_PATH is not set")
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        without_browser("the Python package playwright is not installed")
    with sync_playwright() as driver:
        try:
            started = driver.chromium.launch(executable_path=found, args=FLAGS)
        except Error as error:
            without_browser(f"{found} does not start: {error}")
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    made = make_board(collect([troubled(folder / "records")]), current_versions())
    path = folder / "index.html"
    path.write_text(render(made), encoding="utf-8")
    SHOTS.mkdir(parents=True, exist_ok=True)
    return path
