"""Every public name, every key and every field of a record is in the reference."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import avalanche_proxyfda
from avalanche_proxyfda import metrics, plugins, streams, tuned, weights
from benchmarks.config.keys import Key, described_keys, keys_help
from benchmarks.config.schema import Config
from docs.site.names import offered, public_names
from docs.site.reference import configuration_page, reference_pages

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return reference_pages(ROOT)


def directives(pages: dict[str, str]) -> list[str]:
    return [name for text in pages.values() for name in re.findall(r"^::: (\S+)$", text, re.M)]


@pytest.mark.parametrize("package", [avalanche_proxyfda, plugins, streams, metrics, tuned, weights])
def test_every_public_name_is_in_the_reference(package: Any, pages: dict[str, str]) -> None:
    documented = {name.rpartition(".")[2] for name in directives(pages)}
    public = {name for name in package.__all__ if not name.startswith("_")}
    assert len(public) >= 3
    assert public - documented == set()


def test_each_name_is_defined_where_the_reference_says_and_has_a_docstring() -> None:
    names = public_names(ROOT)
    assert len(names) > 100
    assert len({(each.module, each.name) for each in names}) == len(names)
    for each in names:
        file = ROOT.joinpath(*each.module.split(".")).with_suffix(".py")
        body = ast.parse(file.read_text(encoding="utf-8")).body
        for node, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == each.name:
                assert ast.get_docstring(node), each
                break
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            if any(isinstance(t, ast.Name) and t.id == each.name for t in targets):
                text = after.value if isinstance(after, ast.Expr) else None
                assert isinstance(text, ast.Constant) and isinstance(text.value, str), each
                break
        else:
            pytest.fail(f"{each.module} does not define {each.name}")


def test_a_name_is_offered_by_the_package_before_its_folder() -> None:
    offered = {each.name: each.offered for each in public_names(ROOT)}
    assert offered["FDALoss"] == offered["FDAPlugin"] == "avalanche_proxyfda"
    assert offered["NeighborGraph"] == "avalanche_proxyfda.losses"
    assert offered["mtil_set"] == "avalanche_proxyfda.streams"


@pytest.mark.parametrize("package", [tuned, weights])
def test_examples_of_a_folder_need_public_names_alone(package: Any) -> None:
    named = []
    for each in public_names(ROOT):
        if each.module.startswith(f"{package.__name__}."):
            text = getattr(package, each.name).__doc__ or ""
            for module, names in re.findall(
                r">>> from (avalanche_proxyfda[\w.]*) import (.+)", text
            ):
                named += [(module, name.strip()) for name in names.split(",")]
    assert len(named) > 10
    assert {each for each in named if each[1] not in offered(ROOT, each[0])} == set()


def keys_of(kind: Any, path: str = "") -> set[str]:
    """Dotted names of the fields of nested dataclasses, by a walk of its own."""
    found = set()
    for field in fields(kind):
        hint = get_type_hints(kind)[field.name]
        inner = [each for each in (hint, *get_args(hint)) if is_dataclass(each)]
        for each in inner:
            found |= keys_of(each, f"{path}{field.name}.")
        if not inner:
            found.add(f"{path}{field.name}")
    return found


def test_every_key_of_the_configuration_is_in_its_table(pages: dict[str, str]) -> None:
    listed = re.findall(r"^\| `([\w.]+)` \|", pages["reference/configuration.md"], re.M)
    assert {"method", "train.lr", "backbone.train.text", "where.cache_dir"} <= set(listed)
    assert set(listed) == keys_of(Config)
    shown = keys_help()
    assert all(f" {name} = " in shown for name in listed)


def test_a_section_of_the_table_is_a_part() -> None:
    keys = (Key("seed", "a seed", "0"), Key("head", "The head."), Key("head.l2", "a | b", "null"))
    text = configuration_page(keys)
    assert "## Run\n\nKeys of a run.\n\n" in text and "## `head`\n\nThe head.\n\n" in text
    assert text.index("`seed`") < text.index("## `head`") < text.index("`head.l2`")
    assert r"| `head.l2` | `null` | a \| b |" in text
    assert len(list(described_keys())) > 80


def test_every_field_of_a_record_is_in_its_table(pages: dict[str, str]) -> None:
    file = ROOT / "benchmarks/results/record.schema.json"
    schema = json.loads(file.read_text(encoding="utf-8"))
    page = pages["reference/record.md"]
    for name, part in (("Record", schema), *schema["$defs"].items()):
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        listed = re.findall(r"^\| `(\w+)` \|", section, re.M)
        assert listed == list(part["properties"]) and len(listed) >= 2, name
    assert set(re.findall(r"\]\(#(\w+)\)", page)) == {name.lower() for name in schema["$defs"]}
