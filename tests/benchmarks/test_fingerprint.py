"""The hash of a method's code: what it follows, and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import fingerprint
from benchmarks.fingerprint import ROOT, bare, method_sha256
from benchmarks.methods import METHODS


def test_comments_and_docstrings_are_no_code() -> None:
    head = '"""Doc."""\n\nX = "# no comment"  # a comment\n\n\ndef f() -> int:\n'
    source = f'{head}    """Doc,\n\n    long.\n    """\n    return 1\n'
    assert bare('def f(): "doc"; return 1\n') != bare('def f(): "doc"; return 2\n')
    assert bare(source) == 'X = "# no comment"\ndef f() -> int:\n    return 1'


def test_methods_differ_and_share() -> None:
    hashes = {method: method_sha256(method) for method in METHODS}
    assert hashes["lp-ft"] == hashes["finetune"]  # no plugin of their own
    assert len(set(hashes.values())) == len(METHODS) - 1


@pytest.mark.parametrize(
    ("file", "stale"),
    [
        ("avalanche_proxyfda/losses/fda.py", {"fda", "proxy-fda"}),
        ("avalanche_proxyfda/plugins/ldifs.py", {"ldifs"}),
        ("benchmarks/finetune.py", set(METHODS)),
        ("benchmarks/board/rows.py", set()),
    ],
)
def test_a_change_of_code_marks_the_methods_that_use_it(
    file: str, stale: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {method: method_sha256(method) for method in METHODS}
    real = Path.read_text

    def edited(path: Path, *args: object, **kwargs: object) -> str:
        text = real(path, *args, **kwargs)  # type: ignore[arg-type]
        return f"{text}\nCHANGED = 1\n" if path == ROOT / file else f"{text}\n# no change\n"

    monkeypatch.setattr(Path, "read_text", edited)
    fingerprint.method_sha256.cache_clear()
    try:
        after = {method: method_sha256(method) for method in METHODS}
    finally:
        fingerprint.method_sha256.cache_clear()
    assert {method for method in METHODS if after[method] != before[method]} == stale
