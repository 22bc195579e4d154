"""Examples of docstrings: all run, and every public name has one.

Examples of the package's rooms run in an empty session, as a reader would copy them. Examples of
private helpers and of the benchmarks run among the names of their module.
"""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

from docs.site.names import PublicName, public_names

ROOT = Path(__file__).parents[1]
FOLDERS = ("avalanche_proxyfda", "benchmarks", "docs/site")
WITHOUT = {
    "CheckpointError": "an exception, which users meet as a message",
    "UnsavedError": "an exception, which users meet as a message",
    "Precision": "a type, in the example of EfficientNaive",
    "TEMPLATES": "a constant that is its own example",
    "MEASURES": "a constant, in the example of Measure",
    "DESCRIPTION": "a file name, in the example of tuned_files",
    "WEIGHTS": "a file name, in the example of save_tuned",
}
"""Public names without an example, each with the reason."""


def modules_with_examples() -> list[str]:
    files = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in files
        if ">>> " in path.read_text(encoding="utf-8")
    )


def examples_of(module: str) -> list[doctest.DocTest]:
    """Return the examples of a module, each with the names that it begins with."""
    tests = doctest.DocTestFinder().find(import_module(module))
    if module.startswith("avalanche_proxyfda.") and "._" not in module:
        for test in tests:
            test.globs = {"__name__": "__main__"}
    return [test for test in tests if test.examples]


@pytest.mark.parametrize("module", modules_with_examples())
def test_examples_run_and_print_what_they_show(module: str) -> None:
    if module.startswith("docs.site."):
        pytest.importorskip(module, reason="needs the extra docs", exc_type=ImportError)
    tests = examples_of(module)
    assert tests, f"{module} has a >>> that doctest does not see"
    said: list[str] = []
    for test in tests:
        doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


def test_a_wrong_example_fails() -> None:
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert doctest.DocTestRunner(verbose=False).run(test, out=lambda text: None).failed == 1


def _has_example(name: PublicName) -> bool:
    tests = examples_of(name.module)
    own = f"{name.module}.{name.name}"
    return any(test.name == own or test.name.startswith(f"{own}.") for test in tests)


def test_every_public_name_has_an_example_or_a_reason() -> None:
    without = {name.name for name in public_names(ROOT) if not _has_example(name)}
    assert without == set(WITHOUT)
