"""Pages of methods name what the plugins publish."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from avalanche_proxyfda import plugins

PAGES = sorted((Path(__file__).parents[2] / "docs" / "methods").glob("*.md"))


def test_a_page_names_the_metrics_of_its_plugin() -> None:
    named: dict[str, list[str]] = {}
    missing: dict[str, list[str]] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        plugin = re.search(r"^`(\w+Plugin)\(", text, re.MULTILINE)
        if plugin is None:
            assert page.stem == "frozen"
            continue
        about = (inspect.getdoc(getattr(plugins, plugin[1])) or "").partition("\nArgs:")[0]
        named[page.stem] = re.findall(r"``([A-Z]\w+_[a-z_]+)``", about)
        missing[page.stem] = [name for name in named[page.stem] if f"`{name}`" not in text]
    assert {page: names for page, names in missing.items() if names} == {}
    without = {"averaging", "lp-ft", "magmax", "wise-ft"}
    assert {page for page, names in named.items() if not names} == without
