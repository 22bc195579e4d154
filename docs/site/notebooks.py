"""Notebooks of the docs: they are executed again, and become pages of the site.

``python -m docs.site.notebooks`` executes all notebooks in their places and saves their outputs.
"""

from __future__ import annotations

import base64
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from avalanche_proxyfda._files import write_bytes

ROOT = Path(__file__).parents[2]
CELL_SECONDS = 600


@dataclass(frozen=True)
class NotebookPage:
    """A page of the site that shows a notebook.

    Attributes:
        text: Markdown, with the outputs of the cells and a link to the notebook.
        pictures: PNG files of the page by their names.
    """

    text: str
    pictures: dict[str, bytes]


def notebooks(root: Path = ROOT) -> list[Path]:
    """Return the notebooks of the docs, in the order of their names."""
    return sorted((root / "docs").rglob("*.ipynb"))


def executed(path: Path) -> Any:
    """Execute a notebook in its folder and return it with its outputs.

    Warnings and progress bars, which go to stderr and name places of the machine, are left out.
    Times of execution are left out too, so equal outputs give equal files.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell raises; the message shows the cell.
    """
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(path.parent)}}
    with tempfile.TemporaryDirectory() as folder:  # of the sockets: the kernel opens no port
        kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{folder}/kernel")
        NotebookClient(notebook, kernel, timeout=CELL_SECONDS, resources=place).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def notebook_page(path: Path) -> NotebookPage:
    """Return a notebook as a page: texts, code, and the saved outputs.

    Raises:
        ValueError: if a cell has an output that the page cannot show.
    """
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![Output of the cell above]({name})")
            elif "text/html" in data:
                parts.append(f'<div class="output">{_table_alone(data["text/html"])}</div>')
            elif output.output_type == "stream" or "text/plain" in data:
                text = output.text if output.output_type == "stream" else data["text/plain"]
                parts.append(f"```text\n{text.rstrip()}\n```")
            else:
                raise ValueError(
                    f"{path.name}: an output of the type {output.output_type} has no form on a "
                    "page: execute the notebook again with python -m docs.site.notebooks"
                )
    parts.append(f'Run it yourself: <a href="{path.name}" download>{path.name}</a>.')
    return NotebookPage("\n\n".join(parts) + "\n", pictures)


def _table_alone(html: str) -> str:
    """Return the table of a pandas output, without its style and its border."""
    start, end = html.index("<table"), html.index("</table>") + len("</table>")
    table = html[start:end].replace(' border="1" class="dataframe"', "")
    return "\n".join(line.strip() for line in table.splitlines())


def main() -> None:
    """Execute all notebooks and save them."""
    for path in notebooks():
        print(path.relative_to(ROOT), flush=True)
        write_bytes(path, (nbformat.writes(executed(path)) + "\n").encode())


if __name__ == "__main__":
    main()
