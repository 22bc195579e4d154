"""Pages of the reference that are made from the sources: names, configuration, record."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.config.keys import Key, described_keys
from docs.site.names import PublicName, public_names

FOLDER = "reference/"
TITLES = {
    "checkpoint": "Checkpoints of a training",
    "data": "Data and batches",
    "distributed": "Several processes",
    "features": "Features of a model",
    "losses": "Losses",
    "metrics": "Metrics of a panel",
    "models": "Backbones and heads",
    "pixels": "Images as uint8",
    "plugins": "Plugins",
    "strategies": "Strategies",
    "streams": "Streams",
    "teacher": "Teachers",
    "tuned": "Tuned models",
    "weights": "Weights",
}
"""Titles of the pages of public names, by folder of the package."""


def reference_pages(root: Path) -> dict[str, str]:
    """Return the made pages of the reference by their places among the site's sources.

    Args:
        root: folder of the repository.

    Raises:
        KeyError: if a folder of the package has public names and no title in :data:`TITLES`.
    """
    rooms: dict[str, list[PublicName]] = {}
    for name in public_names(root):
        rooms.setdefault(name.room, []).append(name)
    schema = root / "benchmarks/results/record.schema.json"
    return {
        **{f"{FOLDER}{room}.md": names_page(TITLES[room], rooms[room]) for room in rooms},
        f"{FOLDER}configuration.md": configuration_page(described_keys()),
        f"{FOLDER}record.md": record_page(json.loads(schema.read_text(encoding="utf-8"))),
    }


def names_page(title: str, names: Iterable[PublicName]) -> str:
    """Return a page with an index and a directive for each name; mkdocstrings fills these in."""
    listed = list(names)
    rows = ([f"[`{n.name}`][{n.module}.{n.name}]", f"`{n.offered}`"] for n in listed)
    parts = [f"# {title}", _table(["name", "import it from"], rows).rstrip()]
    parts += [f"::: {each.module}.{each.name}" for each in listed]
    return "\n\n".join(parts) + "\n"


def configuration_page(keys: Iterable[Key]) -> str:
    """Return the page of all keys of a configuration, a section for each part."""
    top: list[Key] = []
    sections: list[tuple[str, str, list[Key]]] = [("Run", "Keys of a run.", top)]
    for key in keys:
        if key.default is None:
            sections.append((f"`{key.name}`", key.about, []))
        elif "." not in key.name:
            top.append(key)
        else:
            sections[-1][2].append(key)
    text = (
        "# Keys of a configuration\n\n"
        "A recipe holds these keys, and `--set KEY=VALUE` changes any of them "
        "([recipes](../recipes.md)). `python -m benchmarks run --help` prints the same keys. "
        "A stream has the keys of its `stream.kind`.\n"
    )
    for title, about, held in sections:
        kind = next((f" ({key.about})" for key in held if key.name == "stream.kind"), "")
        text += f"\n## {title}{kind}\n\n{about}\n\n"
        rows = ([f"`{k.name}`", f"`{k.default}`", k.about] for k in held)
        text += _table(["key", "default", "meaning"], rows)
    return text


def record_page(schema: Mapping[str, Any]) -> str:
    """Return the page of the record's JSON schema, a section for each part."""
    text = (
        "# The record, field by field\n\n"
        "This page is made from [record.schema.json](../../benchmarks/results/record.schema.json). "
        "[Records](../records.md) explains what the parts are for.\n"
    )
    for name, part in (("Record", schema), *schema["$defs"].items()):
        rows = [
            [f"`{field}`", _kind(kind), kind.get("description", "")]
            for field, kind in part["properties"].items()
        ]
        text += f"\n## {name}\n\n{part['description']}\n\n"
        text += _table(["field", "type", "meaning"], rows)
    return text


def _kind(kind: Mapping[str, Any]) -> str:
    """Return a type of JSON schema in a few words."""
    if "$ref" in kind:
        name = kind["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in kind:
        return " or ".join(_kind(each) for each in kind["anyOf"])
    if "enum" in kind or "const" in kind:
        return " or ".join(f"`{json.dumps(v)}`" for v in kind.get("enum", [kind.get("const")]))
    if kind.get("type") == "array":
        items = kind.get("items") or kind.get("prefixItems", [{}])[0]
        return f"list of ({_kind(items)})" if items else "list"
    if isinstance(kind.get("additionalProperties"), Mapping):
        return f"mapping to ({_kind(kind['additionalProperties'])})"
    return str(kind.get("type", "any"))


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table; a bar within a cell is escaped."""

    def lines() -> Iterator[str]:
        for row in (head, ["---"] * len(head), *rows):
            yield (
                "| "
                + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row)
                + " |"
            )

    return "\n".join(lines()) + "\n"
