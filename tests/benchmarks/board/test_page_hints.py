"""Hints of the board's page in a real browser: a table that is cut, a command to paste."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.board.model import make_board
from benchmarks.board.page import page as render
from benchmarks.board.write import current_versions
from benchmarks.results.files import Collected
from tests.benchmarks.board.board_records import records_of
from tests.benchmarks.board.visits import Visit, section


@pytest.mark.parametrize(("width", "cut"), [(800, True), (1280, True), (2400, False)])
def test_a_table_that_is_cut_says_so(browser: Any, file: Path, width: int, cut: bool) -> None:
    with Visit(browser, file, viewport={"width": width, "height": 800}) as page:
        page.add_style_tag(content="body { max-width: none !important; }")
        page.set_viewport_size({"width": width + 1, "height": 800})
        hint, box = section(page).locator(".more"), section(page).locator(".scroll")
        wider = box.evaluate("box => box.scrollWidth > box.clientWidth + 1")
        assert hint.is_visible() == wider
        assert ("cut" in (box.get_attribute("class") or "")) == wider
        if width in (800, 2400):
            assert wider == cut
        if wider:
            box.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
            page.wait_for_function(
                "box => !box.classList.contains('cut')", arg=box.element_handle()
            )


def test_a_command_can_be_pasted(browser: Any, tmp_path: Path) -> None:
    """Words with spaces and signs of a shell are quoted as ``shlex`` quotes them."""
    words = ("python", "-m", "benchmarks", "run", "--set", "a=[x, y]", "it's", "<data>/b", "")
    record = records_of(["lp-ft"], 1)[0]
    how = replace(record.how, command=words)
    made = make_board(Collected((replace(record, how=how),), {}), current_versions())
    (tmp_path / "index.html").write_text(render(made), encoding="utf-8")
    with Visit(browser, tmp_path / "index.html", f"#run-{record.run_id}") as page:
        head = page.get_by_role("rowheader", name="command", exact=True)
        shown = page.get_by_role("dialog").locator("tr", has=head).locator("td")
        assert shlex.split(shown.inner_text()) == list(words)
        assert shown.inner_text() == shlex.join(words)
