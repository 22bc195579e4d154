"""Visits of the board's page in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SHOTS = Path(__file__).parents[3] / "build" / "screenshots"


class Visit:
    """A page, and all that it asked for or complained of."""

    def __init__(self, browser: Any, file: Path, hash_: str = "", **options: Any) -> None:
        self.context = browser.new_context(
            **{"viewport": {"width": 1400, "height": 1000}, **options}
        )
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.on("console", lambda m: self.complaints.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("dialog", lambda d: self.complaints.append(f"alert {d.message}"))
        self.page.goto(f"file://{file}{hash_}")

    def __enter__(self) -> Any:
        return self.page

    def __exit__(self, kind: Any, *_: object) -> None:
        self.context.close()
        if kind is None:
            assert self.complaints == []
            assert {url.partition(":")[0] for url in self.asked} <= {"file", "data"}
            files = {url.partition("#")[0] for url in self.asked if url.startswith("file:")}
            assert len(files) == 1  # the page itself


def section(page: Any) -> Any:
    """The comparison with the ordinary name."""
    return page.locator("section.comparison", has=page.get_by_role("heading", name="concepts on"))
