"""Orders of data sets: names, rotations, lists, and those that are no permutation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from benchmarks.config import Config, complaint, load_recipe, plain, read
from benchmarks.config.mtil import MTIL, XTAIL
from benchmarks.config.orders import ordered
from benchmarks.config.recipe_files import RECIPES
from benchmarks.config.streams import CONCEPTS_MTIL
from benchmarks.results.settings import comparison_of
from tests.benchmarks.execution.sweeps import small_jobs

SIX = list(CONCEPTS_MTIL["I"])


def of(**stream: Any) -> Config:
    return read({"stream": {"kind": "concepts", **stream}})


def test_named_orders_are_permutations_without_a_fixed_place() -> None:
    for named in (CONCEPTS_MTIL, MTIL, XTAIL):
        first, second = named["I"], named["II"]
        assert sorted(first) == sorted(second) and len(set(first)) == len(first)
        assert second not in (first, first[::-1])
    assert all(a != b for a, b in zip(*CONCEPTS_MTIL.values(), strict=True))
    assert [len(MTIL["I"]), len(XTAIL["I"])] == [11, 10]


def test_orders_by_name_rotation_and_list() -> None:
    assert of().stream.learnt == of().stream.sets
    assert of(sets=SIX, order="II").stream.learnt == CONCEPTS_MTIL["II"]
    assert of(sets=SIX[::-1], order="I").stream.learnt == CONCEPTS_MTIL["I"]
    assert of(sets=SIX, order="cyclic-2").stream.learnt == (*SIX[2:], *SIX[:2])
    assert of(sets=["greek", "latin"], order=["latin", "greek"]).stream.learnt == ("latin", "greek")
    rotations = {ordered(SIX, f"cyclic-{k}") for k in range(6)}
    assert {order[0] for order in rotations} == set(SIX)  # each set comes first once


@pytest.mark.parametrize(
    ("sets", "order", "words"),
    [
        (SIX, "III", "order='III' is unknown; choose one of I, II, cyclic-0 to cyclic-5, or list"),
        (SIX, "cyclic-6", "order='cyclic-6' is unknown"),
        (SIX, "cyclic--1", "order='cyclic--1' is unknown"),
        (SIX, SIX[:4], "missing: latin, shapes: list each set once"),
        (SIX, [*SIX, "greek"], "is no permutation of sets=.*; repeated: greek: list"),
        (SIX, [*SIX[1:], "greeek"], "missing: digits; unknown: greeek"),
        (["digits", "greek"], "II", "order='II', .* is no permutation .*; unknown: cyrillic, lat"),
        (SIX[:5], "I", "unknown: latin"),
    ],
)
def test_an_order_that_is_no_permutation_is_refused(
    sets: list[str], order: Any, words: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        of(sets=sets, order=order)
    assert re.search(words, complaint(caught.value))


def test_a_stream_without_an_order_is_the_run_that_it_was() -> None:
    content = plain(of())
    older = {**content, "stream": {k: v for k, v in content["stream"].items() if k != "order"}}
    assert read(older).identity == of().identity
    assert comparison_of(older) == comparison_of(content)
    assert of(order="cyclic-1").identity != of().identity
    assert comparison_of(plain(of(order="cyclic-1"))) != comparison_of(content)


def test_orders_are_an_axis_of_a_sweep(tmp_path: Path) -> None:
    changes = {"train.epochs": 1, "stream.sets": ["digits", "greek"], "panel.sets": []}
    orders = ["cyclic-1", ["digits", "greek"]]
    jobs = small_jobs(tmp_path, set=changes, orders=orders, methods=["lp-ft"], strengths="recipe")
    named = [(job.config.seed, job.config.stream.learnt) for job in jobs]
    both = [("greek", "digits"), ("digits", "greek")]
    assert named == [(seed, order) for seed in (0, 1) for order in both]
    assert len({job.config.identity for job in jobs}) == 4
    assert jobs[0].about == "lp-ft, stream.order=cyclic-1, seed 0"
    fda = small_jobs(tmp_path, set=changes, orders=orders, methods=["fda"], seeds=[0])
    assert [(job.config.strength, job.selection.settings) for job in fda] == [
        (0.3, 2),
        (1, 2),
        (0.3, 2),
        (1, 2),
    ]  # strengths are chosen in each order for itself
    with pytest.raises(ValueError, match=r"set\.stream\.order: the matrix lists orders"):
        small_jobs(tmp_path, set={"stream.order": "cyclic-0"}, orders=["cyclic-1"])
    with pytest.raises(ValueError, match=r"orders=\['I', 'I'\]: each may be given once"):
        small_jobs(tmp_path, orders=["I", "I"])


def test_concepts_mtil_learns_six_sets_and_keeps_two() -> None:
    config = load_recipe(RECIPES / "concepts_mtil.yaml").of_method("finetune").config
    assert config.stream.learnt == CONCEPTS_MTIL["I"] and config.head.kind == "zero-shot"
    assert not set(config.stream.learnt) & set(config.panel.sets)
