"""A run may have the student's moving average as its teacher, and no other reference may."""

from __future__ import annotations

import pytest

from benchmarks.config import RECIPES, load_recipe
from benchmarks.methods.plugins import plugins_of


def test_a_run_takes_an_averaged_teacher() -> None:
    recipe = load_recipe(RECIPES / "concepts.yaml")
    config = recipe.of_method("fda", {"reference": "averaged"}).config
    (plugin,) = plugins_of(config)
    assert plugin.choice == "averaged"
    assert config.identity != recipe.of_method("fda").config.identity
    anchored = recipe.of_method("l2sp", {"reference": "averaged"}).config
    with pytest.raises(ValueError, match="anchor='averaged' is unknown"):
        plugins_of(anchored)
