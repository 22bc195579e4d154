"""The rules of every plugin: its strength comes first, the rest by keyword; one hook compares."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from avalanche_proxyfda import plugins
from avalanche_proxyfda.plugins.base.anchored import AnchorPlugin
from avalanche_proxyfda.plugins.base.embedding import EmbeddingPlugin
from avalanche_proxyfda.plugins.base.features import FeaturePlugin
from avalanche_proxyfda.plugins.base.graph import GraphPlugin
from avalanche_proxyfda.plugins.base.learned import LearnedLossPlugin
from avalanche_proxyfda.plugins.base.lifecycle import ReferencePlugin
from avalanche_proxyfda.plugins.base.reference_only import ReferenceOnlyPlugin
from benchmarks.methods.registry import METHODS
from tests.methods import PLUGINS, needed

STRENGTHS: dict[str, tuple[str, float] | None] = {
    kind.__name__: (known.knob, known.strength)
    if (known := METHODS[method]).knob is not None and known.strength is not None
    else None
    for method, kind in PLUGINS.items()
}
"""Name and default of each plugin's strength, as the registry has them."""
METHOD_OF = {kind.__name__: method for method, kind in PLUGINS.items()}
BASES: dict[type, str | None] = {
    ReferencePlugin: None,
    AnchorPlugin: None,
    FeaturePlugin: "weight",
    EmbeddingPlugin: "weight",
    LearnedLossPlugin: "weight",
    GraphPlugin: "weight",
}
BY_KEYWORD = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)


def split(kind: type) -> tuple[list[inspect.Parameter], list[inspect.Parameter]]:
    """The positional parameters of a class, and those by keyword."""
    parameters = list(inspect.signature(kind).parameters.values())
    by_keyword = [p for p in parameters if p.kind in BY_KEYWORD]
    return [p for p in parameters if p not in by_keyword], by_keyword


def test_the_list_is_complete() -> None:
    assert set(STRENGTHS) == set(plugins.__all__)
    assert STRENGTHS["DiGraPPlugin"] == ("mu", 0.5) and STRENGTHS["LDIFSPlugin"] == ("weight", 10)


@pytest.mark.parametrize("name", STRENGTHS)
def test_only_the_strength_is_positional(name: str) -> None:
    kind, strength = getattr(plugins, name), STRENGTHS[name]
    positional, by_keyword = split(kind)
    assert [(p.name, p.default) for p in positional] == ([] if strength is None else [strength])
    assert by_keyword
    surplus = ["backbone"] if strength is None else [strength[1], "backbone"]
    with pytest.raises(TypeError, match=rf"^{name} takes .*positional argument.* by name$"):
        kind(*surplus)


@pytest.mark.parametrize("kind", BASES)
def test_bases_follow_the_same_rule(kind: type) -> None:
    positional, by_keyword = split(kind)
    assert [p.name for p in positional] == ([] if BASES[kind] is None else [BASES[kind]])
    assert by_keyword


@pytest.mark.parametrize("name", STRENGTHS)
def test_the_strength_is_taken_by_position_and_by_name(name: str) -> None:
    kind, strength = getattr(plugins, name), STRENGTHS[name]
    if strength is not None:
        argument, _ = strength
        given = needed(METHOD_OF[name])
        one, two = kind(0.25, **given), kind(**{argument: 0.25}, **given)
        held: list[Any] = [
            p.projection.mu if argument == "mu" else getattr(p, argument) for p in (one, two)
        ]
        assert held == [0.25, 0.25]


@pytest.mark.parametrize("name", STRENGTHS)
def test_compare_is_what_a_method_on_features_implements(name: str) -> None:
    kind = getattr(plugins, name)
    if issubclass(kind, ReferenceOnlyPlugin):
        assert "compare_reference" in vars(kind)
        names = list(inspect.signature(kind.compare_reference).parameters)[1:]
        assert names == ["student", "teacher", "beside"]
    elif issubclass(kind, FeaturePlugin):
        assert "compare" in vars(kind)
        (student, teacher) = list(inspect.signature(kind.compare).parameters)[1:]
        assert (student, teacher) == ("student", "teacher")
    else:
        assert not hasattr(kind, "compare")


def test_ldifs_has_taps_and_no_feature_module() -> None:
    with pytest.raises(TypeError, match="feature_module"):
        plugins.LDIFSPlugin(feature_module="backbone")  # type: ignore[call-arg]
