"""What a browser would load from the network for a page."""

from __future__ import annotations

from html.parser import HTMLParser

_LOADS = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "video": "src",
}
"""Elements that load a file by themselves, with the attribute that names the file."""


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(_LOADS.get(tag, "")) or ""
        if address.startswith(("http:", "https:", "//")):
            self.addresses.append(address)


def from_network(html: str) -> list[str]:
    """Return the addresses that a browser would load for ``html``; links to follow do not count.

    >>> from_network('<script src="//a.org/x.js"></script><a href="https://b.org">b</a>')
    ['//a.org/x.js']
    """
    parser = _Loads()
    parser.feed(html)
    return parser.addresses
