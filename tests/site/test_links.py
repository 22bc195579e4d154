"""Links out of ``docs`` lead to pages of the site, and nothing is loaded from the network."""

from __future__ import annotations

from pathlib import Path

from docs.site.loaded import from_network
from docs.site.outside import outside_pages, rewritten

KNOWN = {"index.md", "a/page.md", "a/b.md", "a/picture.png"}


def repository(root: Path) -> Path:
    for name, text in {
        "README.md": "[page](docs/a/page.md) [recipes](recipes) [code](run.py)\n",
        "run.py": "x = [1](2)\n",
        "recipes/one.yaml": "a: 1\n",
        "recipes/.hidden": "",
        "docs/index.md": "[front](../README.md#use)\n",
        "docs/a/page.md": "[r](../../recipes) [b](b.md) ![p](picture.png)\n",
        "docs/a/b.md": "",
        "docs/a/picture.png": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def test_what_pages_link_to_becomes_a_page(tmp_path: Path) -> None:
    pages = outside_pages(repository(tmp_path), KNOWN, {})
    assert set(pages) == {
        "repository/README.md",
        "repository/recipes/index.md",
        "repository/recipes/one.yaml.md",
        "repository/run.py.md",
    }
    assert pages["repository/recipes/index.md"] == "# `recipes`\n\n- [one.yaml](one.yaml)\n"
    assert "````yaml\na: 1\n" in pages["repository/recipes/one.yaml.md"]
    assert "exclude: true" in pages["repository/run.py.md"]


def test_links_lead_to_these_pages(tmp_path: Path) -> None:
    root = repository(tmp_path)
    known = KNOWN | set(outside_pages(root, KNOWN, {}))

    def of(uri: str, text: str) -> str:
        return rewritten(text, uri, root, known)

    assert of("index.md", "[f](../README.md#use)") == "[f](repository/README.md#use)"
    assert of("a/page.md", "[r](../../recipes)") == "[r](../repository/recipes/index.md)"
    assert of("a/page.md", "[b](b.md#x) ![p](picture.png)") == "[b](b.md#x) ![p](picture.png)"
    assert of("a/page.md", "[`run`](../../run.py)") == "[`run`](../repository/run.py.md)"
    assert of("repository/README.md", "[p](docs/a/page.md)") == "[p](../a/page.md)"
    listed = "[one.yaml](one.yaml)"
    assert of("repository/recipes/index.md", listed) == "[one.yaml](one.yaml.md)"


def test_a_link_to_a_notebook_leads_to_its_page(tmp_path: Path) -> None:
    known = {*KNOWN, "a/one.md", "a/one.ipynb", "a/two.ipynb"}  # two has no page
    of = rewritten("[n](one.ipynb#end) [m](two.ipynb)", "a/b.md", tmp_path, known)
    assert of == "[n](one.md#end) [m](two.ipynb)"


def test_addresses_code_and_what_leads_nowhere_stay(tmp_path: Path) -> None:
    root = repository(tmp_path)
    for text in (
        "[w](https://a.org/README.md)",
        "[here](#use)",
        "[gone](../gone.md)",
        "[up](../../../../etc/passwd)",
        "`[f](../README.md)`",
        "```python\nx[0](../README.md)\n```",
    ):
        assert rewritten(text, "index.md", root, KNOWN) == text


def test_an_entry_of_a_matrix_is_no_reference(tmp_path: Path) -> None:
    text = "the mean of R[t][i], of R[t − 1][i], of `R[t][i]`, and [a][b]"
    expected = r"the mean of R\[t\]\[i\], of R\[t − 1\]\[i\], of `R[t][i]`, and [a][b]"
    assert rewritten(text, "index.md", tmp_path, KNOWN) == expected


def test_what_is_loaded_from_the_network_is_seen() -> None:
    page = """<link rel="stylesheet" href="https://fonts.org/a.css"><img src="//b.org/c.png">
    <script src="http://d.org/e.js"></script><script src="assets/f.js"></script>
    <a href="https://g.org">text</a><p>src="https://h.org"</p>"""
    assert from_network(page) == ["https://fonts.org/a.css", "//b.org/c.png", "http://d.org/e.js"]
    assert from_network('<link rel="canonical" href="index.html"><img src="a.png">') == []
