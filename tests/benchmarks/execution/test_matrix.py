"""Matrices of sweeps: which jobs they make, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.execution.fitted import fitted
from benchmarks.execution.matrix import FOLDER, jobs_of, load_matrix
from tests.benchmarks.execution.sweeps import call, small_jobs, write


def test_a_matrix_is_every_method_at_every_strength_with_every_seed(tmp_path: Path) -> None:
    jobs = small_jobs(tmp_path)
    named = [(job.config.method, job.config.strength, job.config.seed) for job in jobs]
    one = [("lp-ft", None), ("fda", 0.3), ("fda", 1.0)]
    assert named == [(*pair, seed) for seed in (0, 1) for pair in one]  # whole seeds first
    assert all(j.config.train.epochs == 1 and j.folder == tmp_path / "concepts" for j in jobs)
    assert [job.selection.settings for job in jobs[:3]] == [1, 2, 2]
    assert [job.selection.data for job in jobs[:2]] == ["given", "validation"]
    for asked, count in (("grid", 12), ("coarse", 6), ("recipe", 4), ([0.5], 4)):
        assert len(small_jobs(tmp_path, strengths=asked)) == count
    both = ["concepts.yaml", "pacs_mobilenet.yaml"]
    jobs = small_jobs(tmp_path, streams=both, methods=None, strengths="recipe", set={})
    assert {job.folder.name for job in jobs} == {"concepts", "pacs_mobilenet"} and len(jobs) == 22


def test_the_shipped_matrices_load(tmp_path: Path) -> None:
    """One seed each; ``tests/test_docs_board.py`` counts all jobs of the studies."""
    counts = {}
    for path in FOLDER.glob("*.yaml"):
        matrix = load_matrix(path.name)
        counts[path.stem] = len(fitted(jobs_of(replace(matrix, seeds=matrix.seeds[:1]), tmp_path)))
    assert counts == {
        "ablations": 14,
        "auto_drift": 6,
        "auto_share": 10,
        "concepts": 26,
        "concepts_more": 97,
        "concepts_more_chosen": 28,
        "concepts_more_confirm": 8,
        "concepts_mtil": 91,
        "concepts_mtil_chosen": 38,
        "concepts_mtil_both": 38,
        "real_images_few": 56,
        "real_images_few_chosen": 25,
        "real_images_few_confirm": 8,
        "pacs_few": 19,
        "pacs_few_confirm": 7,
        "real_images_lite0": 9,
        "real_images_lite0_confirm": 6,
        "real_images_lite0_few": 18,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": ["fda"]}, r"'method' is not a key; did you mean 'methods'\?"),
        ({"methods": ["fdaa"]}, "method='fdaa' is unknown"),
        ({"strengths": {"fdaa": [1]}}, "method='fdaa' is unknown"),
        ({"strengths": {"lp-ft": [1]}}, "strengths.lp-ft: lp-ft has none; methods with a strength"),
        ({"strengths": {"rkd": [1]}}, r"strengths: \['rkd'\] are not among the methods"),
        ({"strengths": "all"}, "strengths"),
        ({"strengths": []}, "strengths"),
        ({"strengths": {"fda": [1, 1]}}, "must hold different numbers"),
        ({"seeds": [0, 0]}, "each may be given once"),
        ({"seeds": [-1]}, "seeds"),
        ({"seeds": []}, "seeds"),
        ({"cpus": 0}, "cpus"),
        ({"streams": ["nowhere.yaml"]}, "is no file"),
        ({"set": {"seed": 3}}, r"set\.seed: say it by the matrix's seeds"),
        ({"set": {"panel.sets": [], "panel": {"sets": []}}}, r"m\.yaml: set: panel\.sets is given"),
        ({"set": {"train.steps": 9, "train.epochs": 1}}, r"m\.yaml: set: train\.steps=9 and train"),
        (
            {"set": {"stream": {"order": "cyclic-1"}}, "orders": ["cyclic-0"]},
            r"set\.stream\.order: the matrix lists orders; leave one out",
        ),
        ({"streams": ["concepts.yaml", "recipes/concepts.yaml"]}, "two of them are the same"),
        ({"streams": ["concepts/fda.yaml"]}, "say --config concepts.yaml --methods fda"),
        ({"set": {"train.epoch": 1}}, r"did you mean 'train.epochs'\?"),
        (
            {"methods": ["fda"], "set": {"options.num_neighbor": 1}},
            r"concepts\.yaml: options\.num_neighbor .* did you mean 'num_neighbors'\?",
        ),
        (
            {"strengths": "coarse", "streams": ["imagenet_r.yaml"], "set": {}},
            "imagenet_r.yaml has no coarse of fda: write methods.fda.coarse into the recipe, or "
            "give strengths; the usual grid of fda is 0.1, 0.3, 1, 3, 10",
        ),
    ],
)
def test_bad_matrices(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        small_jobs(tmp_path, **changes)


def test_the_recipe_of_one_method_is_no_stream(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("base: concepts.yaml\nmethod: fda", encoding="utf-8")
    for methods, message in ((None, "list no methods"), (["fda"], "own.yaml is the recipe of one")):
        with pytest.raises(ValueError, match=message):
            small_jobs(tmp_path, streams=[str(own)], methods=methods)


def test_a_matrix_that_is_no_file_and_bad_options(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there are .*concepts\.yaml"):
        load_matrix("nothing.yaml")
    with pytest.raises(FileNotFoundError, match=r"did you mean 'ablations\.yaml'\?"):
        load_matrix("Ablation.yaml")
    (tmp_path / "list.yaml").write_text("[1]", encoding="utf-8")
    with pytest.raises(ValueError, match="must hold keys"):
        load_matrix(str(tmp_path / "list.yaml"))
    with pytest.raises(ValueError, match="--jobs 0"):
        call("--matrix", write(tmp_path), "--jobs", 0)
    with pytest.raises(ValueError, match="say --engine ray"):
        call("--matrix", write(tmp_path), "--address", "auto")
    with pytest.raises(ValueError, match="has runs 0 to 5"):
        call("--matrix", write(tmp_path), "--out", tmp_path, "--task", 6)
