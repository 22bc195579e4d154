"""Formulas become MathML when the site is built."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("latex2mathml", reason="needs pip install '.[docs]'")

from docs.site.formulas import as_mathml, without_roles

GLOSSARY = Path(__file__).parents[2] / "docs/glossary.md"


def test_a_formula_is_typeset() -> None:
    html = r'<p>a <span class="arithmatex">\(\frac{x}{2} &lt; 1\)</span> b</p>'
    made = as_mathml(html)
    tree = ElementTree.fromstring(re.sub(r' xmlns="[^"]*"', "", made))
    assert [each.tag for each in tree.iter("mfrac")] == ["mfrac"]
    assert "".join(tree.itertext()).replace(" ", "") == "ax2<1b"
    assert 'display="inline"' in made


def test_every_formula_of_the_glossary_is_typeset() -> None:
    text = GLOSSARY.read_text(encoding="utf-8")
    formulas = re.findall(r"\$\$\n(.*?)\n\$\$", text, re.DOTALL)
    assert len(formulas) == 4
    for formula in formulas:
        made = as_mathml(f'<div class="arithmatex">\\[{formula}\\]</div>')
        assert made.startswith('<div class="formula"><math') and "munder" in made


def test_an_unknown_command_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no command that is typeset"):
        as_mathml(r'<span class="arithmatex">\(\forgetting x\)</span>')


def test_roles_of_docstrings_are_code() -> None:
    assert without_roles("see :class:<code>~a.B</code>") == "see <code>a.B</code>"
    assert without_roles("see <code>:class:</code>") == "see <code>:class:</code>"
