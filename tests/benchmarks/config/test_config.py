"""Configurations are data: what importing them loads, and constants that others hold too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from avalanche_proxyfda.models.packaged import PREFIX
from avalanche_proxyfda.models.text_head import TEMPLATES
from benchmarks import config
from benchmarks.config.parts import PACKAGED
from benchmarks.config.streams import EMBEDDED, KINDS
from benchmarks.streams.concepts import data as concepts

ROOT = Path(__file__).parents[3]
HEAVY = """
import sys
heavy = {"torch", "avalanche", "numpy"} & set(sys.modules)
heavy |= {m for m in sys.modules if m.startswith("avalanche_proxyfda.") and "._" not in m}
assert not heavy, heavy
"""
PARSES = """
from benchmarks.config import find_recipe, keys_help, load_recipe, path_configs
recipe = load_recipe(find_recipe("concepts.yaml"))
for method in recipe.compare:
    run = recipe.of_method(method, {"train.lr": 1e-3})
    assert len(path_configs(run.config, run.grid)) == (len(run.grid) or 1)
assert recipe.config.identity and keys_help()
"""


@pytest.mark.parametrize(
    "program", ["import benchmarks.config", "import benchmarks.results.identity", PARSES]
)
def test_configurations_load_neither_torch_nor_avalanche(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program + HEAVY], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr


def test_the_identity_of_a_run_needs_no_schema() -> None:
    program = "import sys, benchmarks.results.identity; assert 'pydantic' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_constants_are_those_of_the_code_that_uses_them() -> None:
    assert config.TEMPLATES == TEMPLATES
    assert config.SEQUENCE == concepts.SEQUENCE
    assert EMBEDDED == concepts.EMBEDDED
    assert PACKAGED == PREFIX
    assert KINDS[:3] == ("concepts", "sequence", "imagenet-r")
