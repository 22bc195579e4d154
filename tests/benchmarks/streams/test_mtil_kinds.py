"""The kinds mtil and xtail on miniatures: dry runs, label spaces, and what later sets touch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.config import Config
from benchmarks.experiment.prepare import prepare
from benchmarks.experiment.run import run
from benchmarks.streams.registry import load_stream, scan_images
from tests.benchmarks import miniature
from tests.streams.mtil_layouts import LAYOUTS, coop, split_file, without_digests

SHUFFLED = {"lr": 1e-3, "batch": 8, "eval_batch": 50, "batches": "shuffled"}


def config(data: Path, kind: str, splits: str, *sets: str, **changes: Any) -> Config:
    order = changes.pop("order", None)
    share = changes.pop("validation_share", 0.1)
    stream = {"kind": kind, "splits": splits, "sets": sets, "order": order}
    return miniature.config(
        data,
        stream={**stream, "validation_share": share},
        head={"kind": "zero-shot", "templates": ["{}"]},
        train=SHUFFLED,
        **{"panel": {"sets": []}, **changes},
    )


def test_a_dry_run_of_mtil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_digests(monkeypatch)
    with_words = [name for name in LAYOUTS if name not in ("Flowers102", "SUN397", "CIFAR100")]
    for name in LAYOUTS:
        LAYOUTS[name](tmp_path)
    whole = load_stream(config(tmp_path, "mtil", "zscl", *LAYOUTS, order="II"), views(tmp_path))
    assert whole.names[0] == "StanfordCars" and whole.names[-1] == "CIFAR100"
    assert len(whole.train) == len(whole.validation) == 11 and whole.tasks
    prepared = prepare(config(tmp_path, "mtil", "zscl", *with_words), only_check=True)
    assert prepared.stream.names == tuple(with_words)
    count, broken = scan_images(config(tmp_path, "mtil", "zscl", *with_words))
    assert count == sum(
        set_[split]
        for set_ in prepared.stream.summary["sets"]
        for split in ("train", "validation", "test")
    )
    assert broken == {}


def views(data: Path) -> Any:
    return miniature.views_of(miniature.config(data))


def test_families_orders_and_shares_in_the_record(tmp_path: Path) -> None:
    for name in ("FGVCAircraft", "DTD", "Food101"):
        LAYOUTS[name](tmp_path)
    hashes = {}
    for splits in ("zscl", "coop"):
        split_file(tmp_path, "split_zhou_DescribableTextures.json", "dtd/images", ("a", "b"))
        made = config(tmp_path, "mtil", splits, "FGVCAircraft", "DTD", order="cyclic-1")
        stream = load_stream(made, views(tmp_path))
        assert stream.names == ("DTD", "FGVCAircraft") and stream.summary["splits"] == splits
        assert ("split_file_sha256" in stream.summary["sets"][0]) == (splits == "coop")
        hashes[splits] = stream.summary["split_sha256"]
        alone = load_stream(config(tmp_path, "mtil", splits, "FGVCAircraft"), views(tmp_path))
        hashes[f"{splits} alone"] = alone.summary["split_sha256"]
    assert len(set(hashes.values())) == 4  # the family counts where the images are the same
    none = load_stream(config(tmp_path, "mtil", "zscl", "DTD", validation_share=0), views(tmp_path))
    assert none.validation is None and set(none.sources[0]) == {"train", "test"}


def test_a_run_without_validation_has_no_validation_figures(tmp_path: Path) -> None:
    coop(tmp_path)
    record = run(config(tmp_path, "mtil", "coop", "Flowers102", "Food101", validation_share=0))
    assert record.status == "finished"
    assert record.outcome.validation_last is None
    assert len(record.outcome.accuracy) == 3
    assert all(None not in row for row in record.outcome.accuracy)


def test_xtail_joins_the_label_spaces(tmp_path: Path) -> None:
    coop(tmp_path)
    stream = load_stream(
        config(tmp_path, "xtail", "coop", "Food101", "Flowers102"), views(tmp_path)
    )
    assert stream.classes == (("pizza", "lotus", "hot dog", "pink primrose"),)
    assert stream.summary["merged"] == {"lotus": ["Food101", "Flowers102"]}
    assert [set(e.dataset.targets) for e in stream.train] == [{0, 1, 2}, {1, 3}]
    assert all(len(e.dataset[0]) == 2 for e in stream.test)  # image and label: no set id
    assert not stream.tasks and stream.added == (3, 1)
    assert [set_["classes"] for set_ in stream.summary["sets"]] == [3, 2]
    other = load_stream(config(tmp_path, "xtail", "coop", "Flowers102", "Food101"), views(tmp_path))
    assert other.classes == (("pink primrose", "Lotus", "pizza", "hot dog"),)
    assert other.summary["split_sha256"] == stream.summary["split_sha256"]
    made = config(tmp_path, "xtail", "coop", "Food101")
    with pytest.raises(ValueError, match=r"head\.kind='probe': X-TAIL .* set head\.kind=zero-shot"):
        load_stream(miniature.config(tmp_path, stream=vars_of(made)), views(tmp_path))


def vars_of(made: Config) -> dict[str, Any]:
    stream: Any = made.stream
    return {"kind": stream.kind, "splits": stream.splits, "sets": stream.sets}


@pytest.mark.parametrize("kind", ["mtil", "xtail"])
def test_later_sets_change_no_bit_of_training(kind: str, tmp_path: Path) -> None:
    """The tower after the first set is the same, whatever sets come later or are on the panel."""
    coop(tmp_path)
    towers, rows = [], []
    for sets, panel in ((["Flowers102"], ["colours"]), (["Flowers102", "Food101"], [])):
        kept: list[dict[str, torch.Tensor]] = []
        made = config(tmp_path, kind, "coop", *sets, panel={"sets": panel, "train": 40, "test": 20})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("benchmarks.experiment.run.accuracy_on", keeping(kept, patch))
            record = run(made)
        towers.append(kept[0])
        rows.append(record.outcome.accuracy)
    assert towers[0].keys() == towers[1].keys()
    assert all(torch.equal(value, towers[1][name]) for name, value in towers[0].items())
    if kind == "mtil":  # xtail has more classes to confuse at test
        assert rows[0][1][0] == rows[1][1][0]


def test_evaluating_unseen_sets_draws_no_random_number(tmp_path: Path) -> None:
    """The tower at the end is the same if no set is evaluated before it is learnt."""
    coop(tmp_path)
    towers = []
    for evaluated in (True, False):
        kept: list[dict[str, torch.Tensor]] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("benchmarks.experiment.run.accuracy_on", keeping(kept, patch))
            if not evaluated:
                patch.setattr(
                    "benchmarks.experiment.run._Accuracies.test_from",
                    lambda self, first: (None,) * (2 - first),
                )
            record = run(config(tmp_path, "mtil", "coop", "Flowers102", "Food101"))
        assert (record.outcome.accuracy[0][0] is not None) == evaluated
        towers.append(kept[-1])
    assert all(torch.equal(value, towers[1][name]) for name, value in towers[0].items())


def keeping(kept: list[dict[str, torch.Tensor]], patch: pytest.MonkeyPatch) -> Any:
    """Take the place of ``accuracy_on``, and keep the tower's weights at each call."""
    from benchmarks.experiment import run as module

    original, build = module.accuracy_on, module.build_strategy
    models: list[Any] = []

    def built(prepared: Any, *rest: Any) -> Any:
        models.append(prepared.model)
        return build(prepared, *rest)

    def accuracy_on(*arguments: Any) -> Any:
        tower = models[0].tower
        kept.append({name: value.clone() for name, value in tower.state_dict().items()})
        return original(*arguments)

    patch.setattr(module, "build_strategy", built)
    return accuracy_on
