"""Each plugin explains its arguments itself, and refuses others in its own name."""

from __future__ import annotations

import copy
import inspect
import pickle
import pydoc
import re
from typing import Any

import pytest

from avalanche_proxyfda import FDAPlugin, ProxyFDAPlugin
from avalanche_proxyfda.plugins.base.arguments import arguments_of
from tests.methods import PLUGINS, needed, toy_plugin

KINDS = pytest.mark.parametrize("kind", PLUGINS.values(), ids=PLUGINS)


def entries(text: str) -> dict[str, str]:
    """The entries of the section ``Args`` of a docstring, by name."""
    (section,) = re.findall(r"^Args:\n((?: {4}.*\n?|\n)+)", text, re.MULTILINE)
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \w)", section.rstrip()):
        names, _, what = entry.strip().partition(": ")
        found |= dict.fromkeys(names.split(", "), " ".join(what.split()))
    return found


@KINDS
def test_help_explains_every_argument(kind: Any) -> None:
    signature = inspect.signature(kind)
    assert inspect.Parameter.VAR_KEYWORD not in {p.kind for p in signature.parameters.values()}
    explained = entries(inspect.getdoc(kind) or "")
    assert set(explained) == set(signature.parameters)
    for name, text in explained.items():
        assert len(text) > 15, name
        assert not re.match(r"see :class:", text), name
    shown = pydoc.plain(pydoc.render_doc(kind))
    assert all(re.search(rf"\b{name}\b.*: ", shown) for name in signature.parameters)
    assert "options: see" not in shown.split("Method resolution order")[0]


def test_the_help_of_proxy_fda_names_its_main_arguments_with_their_defaults() -> None:
    shown = pydoc.plain(pydoc.render_doc(ProxyFDAPlugin))
    head = shown.split("Method resolution order")[0]
    assert "weight: 'Weight' = 1.0" in head and "num_neighbors: 'int | None' = None" in head
    assert re.search(r"num_neighbors: K, below the batch size", head)
    assert re.search(r'teacher: ``"previous"``, the model at the end of the experience', head)
    assert "hard_class_batches: the plugin CHANGES THE TRAINING DATA" in head
    assert head.index("proxy_ratio: s,") < head.index("num_neighbors: K,")


@pytest.mark.parametrize("method", PLUGINS)
def test_defaults_are_those_that_apply(method: str) -> None:
    """An argument at its default changes nothing."""
    kind, given = PLUGINS[method], needed(method)
    defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    one, two = kind(**given), kind(**defaults | given)
    plain = (bool, int, float, str, type(None))
    for name, value in vars(one).items():
        if isinstance(value, plain):
            assert vars(two)[name] == value, name


@KINDS
def test_a_misspelt_keyword_is_refused_by_the_class_that_was_called(kind: Any) -> None:
    for name in inspect.signature(kind).parameters:
        wrong = f"{name}s" if not name.endswith("s") else name[:-1]
        words = rf"^{kind.__name__} has no argument '{wrong}'; did you mean '{name}'\?$"
        with pytest.raises(TypeError, match=words):
            kind(**{wrong: 1})
    with pytest.raises(
        TypeError, match=rf"^{kind.__name__} has no argument 'xyzzy'; it has .*name"
    ):
        kind(xyzzy=1)


def test_the_example_of_a_misspelt_keyword() -> None:
    with pytest.raises(TypeError, match=r"ProxyFDAPlugin has no .*did you mean 'num_neighbors'\?"):
        ProxyFDAPlugin(1.0, num_neighbor=8)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("kind", "word", "remedy"),
    [
        ("fda", "lam", "did you mean 'weight'?"),
        ("digrap", "lambda_", "did you mean 'mu'?"),
        ("fda", "alpha", "did you mean 'weight'?"),
        ("proxy-fda", "alpha", "did you mean 'weight' or 'variance_weight'?"),
        ("fda", "K", "did you mean 'num_neighbors'?"),
        ("proxy-fda", "k", "did you mean 'num_neighbors'?"),
        ("fda", "num_neighbours", "did you mean 'num_neighbors'?"),
        ("fda", "proxy_ratio", "it is an argument of ProxyFDAPlugin"),
        ("fda", "attention", "it is an argument of ProxyFDAPlugin"),
    ],
)
def test_symbols_of_the_papers_and_arguments_of_kin(kind: str, word: str, remedy: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"has no argument '{word}'; {remedy}")):
        PLUGINS[kind](**{word: 1})


def test_ldifs_has_no_feature_module() -> None:
    with pytest.raises(TypeError, match="LDIFSPlugin has no argument 'feature_module'"):
        PLUGINS["ldifs"](feature_module="backbone")


class Own(FDAPlugin):
    """A user's plugin with an argument more.

    Args:
        extra: a number.
        options: as of FDA.
    """

    def __init__(self, weight: float = 1.0, *, extra: int = 3, **options: Any) -> None:
        super().__init__(weight, **options)
        self.extra = extra


class Narrow(FDAPlugin):
    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(strength, num_neighbors=4)


def test_plugins_of_users() -> None:
    own = Own(2.0, extra=4, num_neighbors=5)
    assert (own.weight, own.extra, own.num_neighbors) == (2.0, 4, 5)
    assert arguments_of(Own) is None and "a number" in (inspect.getdoc(Own) or "")
    assert [*inspect.signature(Own).parameters] == ["weight", "extra", "options"]
    with pytest.raises(TypeError, match="has no argument 'strengths'; did you mean 'strength'"):
        Narrow(strengths=2.0)  # type: ignore[call-arg]
    assert Narrow(0.5).weight == 0.5


@pytest.mark.parametrize("method", PLUGINS)
def test_plugins_are_copied_and_pickled(method: str) -> None:
    plugin = toy_plugin(method)
    for twin in (copy.deepcopy(plugin), pickle.loads(pickle.dumps(plugin))):
        assert type(twin) is type(plugin) and twin.name == plugin.name
