"""Names of places that are refused: suffixes, and names that are near to none."""

from __future__ import annotations

import re

import pytest
from torch import nn

from avalanche_proxyfda.features.presets import find_feature_source
from avalanche_proxyfda.features.source import FeatureSource
from tests.plugins.toys import Plain


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "backbone:channel_last",
            "='backbone:channel_last' ends with the unknown suffix ':channel_last' (did you mean "
            "':channels_last'?); the suffixes of a name are, in this order, '[1]' ",
        ),
        ("backbone:xyz", "the unknown suffix ':xyz'; the suffixes"),
        ("backbone[-1]", "ends with '[-1]', which is no entry; "),
        ("backbone[-1]:input", "='backbone[-1]:input' ends with '[-1]', which is no entry; "),
        ("backbone:channels_last:input", "has ':channels_last' in the wrong place; "),
    ],
)
def test_a_wrong_suffix_is_named(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        FeatureSource.parse(name).find(Plain())


def test_a_name_with_a_colon_is_a_name() -> None:
    model = nn.ModuleDict({"a:b": nn.Linear(2, 2)})
    assert FeatureSource.parse("a:b:input").find(model) is model["a:b"]


def test_without_a_near_name_the_presets_place_is_offered() -> None:
    words = "'xyz' is not a module of Plain; no name is near; the preset reads 'classifier:input'"
    with pytest.raises(ValueError, match=words):
        FeatureSource.parse("xyz").find(Plain(), preset=find_feature_source)
    unknown = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(ValueError, match="near names: 0, 1"):
        FeatureSource.parse("xyz").find(unknown, preset=find_feature_source)
