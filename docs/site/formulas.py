"""Typesets formulas when the site is built: TeX becomes MathML, which browsers draw themselves."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

_FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>',
    re.DOTALL,
)
_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj):<code>[~!]?")


def as_mathml(page: str) -> str:
    """Return ``page`` with the formulas that arithmatex marked as MathML.

    A formula is checked in so far as every command must be known: an unknown one is an error.

    Raises:
        ValueError: names a formula with a command that MathML output does not have.
    """

    def typeset(match: re.Match[str]) -> str:
        tex = html.unescape(match[3]).strip()
        made = convert(tex, display="inline" if match[2] == "(" else "block")
        left = re.search(r"<m\w+>\s*\\[A-Za-z]+", made)
        if left:
            raise ValueError(f"formula {tex!r}: {left[0]!r} is no command that is typeset")
        return made if match[1] == "span" else f'<div class="formula">{made}</div>'

    return _FORMULA.sub(typeset, page)


def without_roles(page: str) -> str:
    """Return ``page`` without the Sphinx roles of docstrings, as plain code.

    >>> without_roles(":class:<code>FDALoss</code>")
    '<code>FDALoss</code>'
    """
    return _ROLE.sub("<code>", page)
