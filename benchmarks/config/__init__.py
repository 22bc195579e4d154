"""Configurations of runs as data: the schema, and the recipes.

The package imports neither torch nor Avalanche.
"""

from benchmarks.config.complaints import complaint, unknown_key
from benchmarks.config.keys import keys_help, later_keys
from benchmarks.config.mtil import Mtil, XTail
from benchmarks.config.overrides import parse_overrides
from benchmarks.config.parts import (
    FIRST,
    TEMPLATES,
    Backbone,
    Head,
    Panel,
    Reference,
    Train,
    Where,
    precision_of,
)
from benchmarks.config.paths import path_configs
from benchmarks.config.recipe_files import RECIPES, find_recipe
from benchmarks.config.recipes import MethodRecipe, Recipe, load_recipe
from benchmarks.config.schema import Config, changed, plain, read
from benchmarks.config.streams import SEQUENCE, Concepts, ImageNetR, Sequence

__all__ = [
    "FIRST",
    "RECIPES",
    "SEQUENCE",
    "TEMPLATES",
    "Backbone",
    "Concepts",
    "Config",
    "Head",
    "ImageNetR",
    "MethodRecipe",
    "Mtil",
    "Panel",
    "Recipe",
    "Reference",
    "Sequence",
    "Train",
    "Where",
    "XTail",
    "changed",
    "complaint",
    "find_recipe",
    "keys_help",
    "later_keys",
    "load_recipe",
    "parse_overrides",
    "path_configs",
    "plain",
    "precision_of",
    "read",
    "unknown_key",
]
