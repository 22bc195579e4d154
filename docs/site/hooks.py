"""Hooks of MkDocs, named in ``mkdocs.yml``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from docs.site.formulas import as_mathml, without_roles
from docs.site.loaded import from_network
from docs.site.notebooks import notebook_page, notebooks
from docs.site.outside import outside_pages, rewritten
from docs.site.reference import reference_pages

LOG = logging.getLogger("mkdocs.plugins.site")  # below "mkdocs": --strict counts its warnings
ROOT = Path(__file__).parents[2]


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the reference, of notebooks, and of repository files that pages link to."""
    made = reference_pages(ROOT)
    for path in notebooks(ROOT):
        page, place = notebook_page(path), path.relative_to(ROOT / "docs")
        made[place.with_suffix(".md").as_posix()] = page.text
        for name, picture in page.pictures.items():
            uri = place.with_name(name).as_posix()
            files.append(File.generated(config, uri, content=picture))
    known = {file.src_uri for file in files} | set(made)
    for uri, text in {**made, **outside_pages(ROOT, known, made)}.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links out of ``docs`` to the pages of their targets."""
    known = {file.src_uri for file in files}
    return rewritten(markdown, page.file.src_uri, ROOT, known)


def on_page_content(html: str, **_: Any) -> str:
    """Typeset formulas as MathML."""
    return without_roles(as_mathml(html))


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Warn of fonts, scripts, styles and pictures that a page would load from the network."""
    for address in from_network(output):
        LOG.warning("%s loads %s from the network", page.file.src_uri, address)
    return output
