"""Notebooks of the docs run, say what they were saved with, and become pages of the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from docs.site.notebooks import executed, notebook_page, notebooks
from tests.site.prose import grade, median_sentence, paragraphs
from tests.site.test_prose import HIGHEST_GRADE, MOST_LINES, MOST_WORDS, avoided

EXACT = (
    "learning-and-keeping",
    "real-images",
    "why-it-works",
    "wise-ft-after-soft-fda",
    "read-a-record",
)
"""Their figures come from committed records; those of the other one depend on the machine."""
NAMES = (*EXACT[:4], "plugin-in-five-minutes", EXACT[4])


def saved(name: str) -> Path:
    (path,) = (path for path in notebooks() if path.stem == name)
    return path


def words(notebook: Any) -> list[list[str]]:
    """Return the printed text of each code cell, and the kinds of its pictures and tables."""
    return [
        [each.get("text") or str(sorted(each["data"])) for each in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def without_numbers(cells: list[list[str]]) -> list[list[str]]:
    return [[re.sub(r"[+-]?\d+(\.\d+)?", "#", text) for text in cell] for cell in cells]


def cells_of_tables(notebook: Any) -> list[str]:
    outputs = [each for cell in notebook.cells for each in cell.get("outputs", ())]
    tables = [each["data"]["text/html"] for each in outputs if "text/html" in each.get("data", ())]
    return re.findall(r"<td>(.*?)</td>", "".join(tables))


def test_these_are_all_notebooks() -> None:
    assert tuple(path.stem for path in notebooks()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_its_saved_outputs_are_true(name: str) -> None:
    before = nbformat.read(saved(name), as_version=4)
    after = executed(saved(name))
    if name in EXACT:
        assert words(after) == words(before)
        assert cells_of_tables(after) == cells_of_tables(before)
        assert len(cells_of_tables(after)) > 50
    assert without_numbers(words(after)) == without_numbers(words(before))
    shown = [text for cell in words(after) for text in cell]
    assert any("image/png" in text or "text/html" in text for text in shown)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_notebook_names_no_place_of_a_machine(name: str) -> None:
    notebook = nbformat.read(saved(name), as_version=4)
    texts = [text for cell in words(notebook) for text in cell]
    assert texts and not any(
        re.search(r"/(home|root|tmp|usr|work)/|site-packages", t) for t in texts
    )
    assert notebook.metadata["language_info"] == {"name": "python"}


@pytest.mark.parametrize("name", NAMES)
def test_the_texts_of_a_notebook_are_easy_to_read(name: str) -> None:
    cells = nbformat.read(saved(name), as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    found = paragraphs(text)
    assert [each.text for each in found if each.lines > MOST_LINES] == []
    assert median_sentence(found) <= MOST_WORDS and grade(found) <= HIGHEST_GRADE
    assert avoided(text) == []


def notebook(*outputs: Any) -> Any:
    cell = nbformat.v4.new_code_cell("x = 1", outputs=list(outputs))
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), cell])


def test_a_page_shows_texts_code_and_outputs(tmp_path: Path) -> None:
    picture = nbformat.v4.new_output("display_data", {"image/png": "AAEC", "text/plain": "<F>"})
    html = (
        '<div>\n<style>a</style>\n<table border="1" class="dataframe">\n  <tr></tr>\n</table></div>'
    )
    table = nbformat.v4.new_output("execute_result", {"text/html": html, "text/plain": "t"})
    plain = nbformat.v4.new_output("execute_result", {"text/plain": "5"})
    stream = {"output_type": "stream", "name": "stdout", "text": "one\ntwo\n"}
    printed = nbformat.from_dict(stream)
    path = tmp_path / "a.ipynb"
    nbformat.write(notebook(printed, plain, table, picture, picture), path)
    page = notebook_page(path)
    assert page.text == (
        "# Title\n\n```python\nx = 1\n```\n\n```text\none\ntwo\n```\n\n```text\n5\n```\n\n"
        '<div class="output"><table>\n<tr></tr>\n</table></div>\n\n'
        "![Output of the cell above](a-1.png)\n\n![Output of the cell above](a-2.png)\n\n"
        'Run it yourself: <a href="a.ipynb" download>a.ipynb</a>.\n'
    )
    assert page.pictures == {"a-1.png": b"\0\1\2", "a-2.png": b"\0\1\2"}


def test_an_output_without_a_form_is_refused(tmp_path: Path) -> None:
    error = nbformat.v4.new_output("error", ename="E", evalue="v", traceback=[])
    nbformat.write(notebook(error), tmp_path / "a.ipynb")
    with pytest.raises(ValueError, match=r"a.ipynb: an output of the type error has no form"):
        notebook_page(tmp_path / "a.ipynb")
