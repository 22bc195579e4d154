"""Which words and prompts a configuration gives to a data set, and to a union of label spaces."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks.config import Config, read
from benchmarks.streams.registry import load_stream
from benchmarks.streams.texts.known import SetTexts, known_templates
from benchmarks.streams.texts.lookup import check_texts, texts_of, union_words
from tests.benchmarks import miniature
from tests.streams.mtil_layouts import coop

COOP = ("face", "leopard")
"""CoOp's lists have other class names than torchvision."""
real = pytest.mark.skipif(find_spec("clip_benchmark") is None, reason="no clip-benchmark")


def of(words: dict[str, Any], prompts: str = "per-set") -> Config:
    return read({"head": {"kind": "zero-shot", "prompts": prompts, "words": words}})


@real
def test_own_class_names_keep_the_prompts_of_the_set() -> None:
    with pytest.raises(
        ValueError, match=r"Caltech101: .* 2 labels \(face, leopard\); give .*shared"
    ):
        texts_of(of({}), "Caltech101", COOP)
    made = of({"Caltech101": {"classes": ["a face", "a leopard"]}})
    expected = SetTexts(("a face", "a leopard"), known_templates("Caltech101"))
    assert texts_of(made, "Caltech101", COOP) == expected
    with pytest.raises(ValueError, match="KMNIST: clip-benchmark has no prompts"):
        texts_of(of({"KMNIST": {"classes": ["a", "b"]}}), "KMNIST", COOP)


@real
def test_a_set_without_an_entry_keeps_its_names_beside_own_prompts() -> None:
    made = of({"UCF101": {"templates": ["{}!"]}})
    assert texts_of(made, "UCF101", ("Apply_Lipstick",)) == SetTexts(("Apply Lipstick",), ("{}!",))
    assert union_words(of({}), "UCF101", ("Apply_Lipstick",)) == ("Apply Lipstick",)


def test_class_names_of_the_user_that_do_not_fit_are_refused() -> None:
    made = of({"DTD": {"classes": ["a"]}}, "shared")
    with pytest.raises(ValueError, match=r"1 class names \(a\) and 2 labels .* one for each label"):
        texts_of(made, "DTD", COOP)


def test_a_union_takes_the_words_of_its_sets_and_refuses_their_prompts(tmp_path: Path) -> None:
    coop(tmp_path)
    stream = {"kind": "xtail", "splits": "coop", "sets": ["Food101", "Flowers102"]}

    def load(words: dict[str, Any]) -> Any:
        head = {"kind": "zero-shot", "words": words}
        made = miniature.config(tmp_path, stream=stream, head=head, panel={"sets": []})
        built = load_stream(made, miniature.views_of(made))
        check_texts(made, built, [])
        return built.classes

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the words are in use
        (classes,) = load({"Flowers102": {"classes": ["rose", "Lotus"]}})
    assert classes == ("pizza", "lotus", "hot dog", "rose")
    with pytest.warns(UserWarning, match="has xtail, and this run has Flowers102, Food101 alone"):
        load({"xtail": {"templates": ["{}!"]}})
    with pytest.raises(ValueError, match=r"templates of Food101, .*: leave .* set head\.templates"):
        load({"Food101": {"templates": ["{}!"]}})
