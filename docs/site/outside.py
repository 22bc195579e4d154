"""Links that leave ``docs``: on GitHub as they are, in the site to pages of their targets.

A page may link to any file or folder of the repository. The site gets a page below ``repository/``
for each target: a Markdown file as it is, another file as its text, a folder as a list of files.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping
from pathlib import Path

PREFIX = "repository/"
_LANGUAGES = {".cfg": "ini", ".json": "json", ".py": "python", ".toml": "toml", ".yaml": "yaml"}
_CODE = r"(?P<code>^ *(?P<fence>```+|~~~+).*?^ *(?P=fence)|`[^`\n]+`(?!\]))"
_ENTRY = re.compile(
    _CODE + r"|(?<=\w)\[(?P<row>[^\]\n]{1,9})\]\[(?P<column>\w{1,9})\]", re.DOTALL | re.MULTILINE
)
_LINK = re.compile(
    _CODE + r"|(?P<before>\]\()(?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?P<after>\))",
    re.DOTALL | re.MULTILINE,
)


def rewritten(markdown: str, uri: str, root: Path, known: Collection[str]) -> str:
    """Return ``markdown`` with links that the site can follow.

    Args:
        markdown: text of a page.
        uri: place of the page among the site's sources.
        root: folder of the repository.
        known: places of all sources of the site.
    """

    def lead(match: re.Match[str]) -> str:
        place = None if match["code"] else _target(match["target"], uri)
        if place is None:
            return match[0]
        to = _uri(place, root, known)
        if to is None:
            return match[0]  # leads nowhere: MkDocs warns of it
        relative = posixpath.relpath(to, posixpath.dirname(uri) or ".")
        return f"{match['before']}{relative}{match['anchor'] or ''}{match['after']}"

    return _ENTRY.sub(_escaped, _LINK.sub(lead, markdown))


def _escaped(match: re.Match[str]) -> str:
    """Return an entry of a matrix such as R[t][i] as text: Markdown takes it for a reference."""
    return match["code"] or rf"\[{match['row']}\]\[{match['column']}\]"


def outside_pages(root: Path, known: Collection[str], made: Mapping[str, str]) -> dict[str, str]:
    """Return the pages of repository files that the site's pages link to, by their places.

    Args:
        root: folder of the repository.
        known: places of the sources that the site has already.
        made: sources among them that are no files, with their texts.
    """
    pages: dict[str, str] = {}
    left = [uri for uri in sorted(known) if uri.endswith(".md")]
    while left:
        uri = left.pop()
        text = pages.get(uri) or made.get(uri) or (root / "docs" / uri).read_text(encoding="utf-8")
        for match in _LINK.finditer(text):
            place = None if match["code"] else _target(match["target"], uri)
            to = None if place is None else _uri(place, root, known)
            if place is not None and to is not None and to not in known and to not in pages:
                pages[to] = _page(root / place, place)
                left.append(to)
    return pages


def _target(target: str, uri: str) -> str | None:
    """Return the path in the repository that a link of a page names; None for an address."""
    if re.match(r"[a-z][a-z+.-]*:|/", target):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(_origin(uri)), target))


def _origin(uri: str) -> str:
    """Return the path in the repository of a source of the site."""
    if not uri.startswith(PREFIX):
        return f"docs/{uri}"
    place = uri.removeprefix(PREFIX)
    return place.removesuffix("/index.md") + "/" if place.endswith("/index.md") else place


def _uri(place: str, root: Path, known: Collection[str]) -> str | None:
    """Return the source of the site that shows a path of the repository; None for no such path."""
    inside = place.removeprefix("docs/")
    if inside != place and inside.endswith(".ipynb"):
        page = inside.removesuffix(".ipynb") + ".md"
        if page in known:
            return page
    if inside != place and inside in known:
        return inside
    path = root / place
    if path.is_dir():
        return f"{PREFIX}{place}/index.md"
    if not path.is_file() or place.startswith(".."):
        return None
    return f"{PREFIX}{place}" if path.suffix == ".md" else f"{PREFIX}{place}.md"


def _page(path: Path, place: str) -> str:
    if path.is_dir():
        names = sorted(
            f"{each.name}/" if each.is_dir() else each.name
            for each in path.iterdir()
            if not each.name.startswith((".", "__"))
        )
        lines = (f"- [{name}]({name})" for name in names if not name.endswith("/"))
        return f"# `{place}`\n\n" + "\n".join(lines) + "\n"
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    language = _LANGUAGES.get(path.suffix, "text")
    return f"---\nsearch:\n  exclude: true\n---\n\n# `{place}`\n\n````{language}\n{text}\n````\n"
