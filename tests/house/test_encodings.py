"""Text files are UTF-8 in every locale: who opens one, or reads a process, names the encoding."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.house.imports import PACKAGES, ROOT

ALREADY_UTF8 = {"read_text": 1, "write_text": 2}
"""Positional arguments of Path's methods that include the encoding."""
OPENERS = ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile")
BINARY = ("NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile")
ARCHIVES = ("tarfile",)
"""Modules whose ``open`` takes modes and knows no text."""
MODES = set("rwaxbt+U")


def localised(code: str) -> Iterator[int]:
    """Yield the lines of calls whose text has the locale's encoding."""
    for call in ast.walk(ast.parse(code)):
        if isinstance(call, ast.Call) and _is_localised(call):
            yield call.lineno


def _is_localised(call: ast.Call) -> bool:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in keywords or None in keywords:
        return False
    if any(
        isinstance(keywords.get(key), ast.Constant) and keywords[key].value  # type: ignore[attr-defined]
        for key in ("text", "universal_newlines")
    ):
        return True
    if name in ALREADY_UTF8:
        return len(call.args) < ALREADY_UTF8[name]
    owner = function.value if isinstance(function, ast.Attribute) else None
    if name not in OPENERS or getattr(owner, "id", "") in ARCHIVES:
        return False
    modes = _modes([*call.args, *([keywords["mode"]] if "mode" in keywords else [])])
    if modes:
        return not any("b" in mode for mode in modes)
    if isinstance(function, ast.Name):  # the builtin, which reads text by default
        return name not in BINARY
    return name == "open" and not call.args and not keywords  # Path.open()


def _modes(arguments: list[ast.expr]) -> list[str]:
    constants = [n.value for a in arguments for n in ast.walk(a) if isinstance(n, ast.Constant)]
    return [c for c in constants if isinstance(c, str) and c and set(c) <= MODES and len(c) < 4]


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("path.read_text()", True),
        ("path.read_text('utf-8')", False),
        ("path.write_text(text)", True),
        ("path.write_text(text, encoding='utf-8')", False),
        ("open(name)", True),
        ("open(name, 'w' if new else 'a')", True),
        ("open(name, 'rb')", False),
        ("path.open()", True),
        ("path.open('w')", True),
        ("path.open('ab' if done else 'wb')", False),
        ("path.open(mode='r')", True),
        ("Image.open(file, formats=FORMATS)", False),
        ("tarfile.open(archive)", False),
        ("tarfile.open(archive, 'w:gz' if small else 'w')", False),
        ("os.fdopen(handle, 'w')", True),
        ("NamedTemporaryFile()", False),
        ("NamedTemporaryFile('w')", True),
        ("subprocess.run(words, text=True)", True),
        ("subprocess.run(words, encoding='utf-8')", False),
    ],
)
def test_the_rule(code: str, found: bool) -> None:
    assert bool(list(localised(code))) is found


def test_no_text_has_the_encoding_of_the_locale() -> None:
    places = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in (*PACKAGES, ".ci", "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in localised(path.read_text(encoding="utf-8"))
    ]
    assert places == []
