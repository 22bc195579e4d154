"""A script that differs from the one that saved: another experience, plugin or folder."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.training.plugins import EWCPlugin, SynapticIntelligencePlugin
from avalanche.training.utils import ParamData
from torch import Tensor

from avalanche_proxyfda import FDAPlugin, L2SPPlugin, LDIFSPlugin, PKTPlugin, recommended
from avalanche_proxyfda.checkpoint import CheckpointError, Checkpoints, UnsavedError
from avalanche_proxyfda.checkpoint.objects import attributes_of, load_attributes
from avalanche_proxyfda.checkpoint.tree import encode
from tests.checkpoint.training import BreakOff, BrokenOffError, alike, build, train
from tests.methods import toy_plugin
from tests.plugins.toys import Plain, classic


def saved(folder: Path, step: int, *plugins: Any) -> Any:
    """Break a training off, and return its benchmark of two experiences, two steps an epoch."""
    stream = classic(2, count=60)
    with pytest.raises(BrokenOffError):
        train(build(Plain, *plugins, BreakOff(step)), stream, folder, every=1)
    return stream


def test_a_checkpoint_inside_an_experience_refuses_another_one(tmp_path: Path) -> None:
    stream = saved(tmp_path, 6)
    again = build(Plain, BreakOff())
    checkpoints = Checkpoints(again, tmp_path)
    found = checkpoints.resume()
    assert found is not None and found.inside and found.experiences == 1
    words = r"saved in experience 1, and training begins experience 0: loop over .*experiences:\]"
    with pytest.raises(CheckpointError, match=words):
        again.train(stream.train_stream[0], eval_streams=[])


def test_an_experience_that_is_trained_again_is_named_once(tmp_path: Path) -> None:
    stream = classic(2, count=60)
    train(build(Plain), stream, tmp_path)
    again = build(Plain)
    found = Checkpoints(again, tmp_path).resume()
    assert found is not None and not found.inside and found.experiences == 2
    with pytest.warns(UserWarning, match="saved after experience 0, and training begins it again"):
        again.train(stream.train_stream[0], eval_streams=[])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the checkpoint was saved")
        again.train(stream.train_stream[0], eval_streams=[])


def tensors_of(plugin: Any) -> dict[str, Tensor]:
    """Return the tensors that a checkpoint keeps of a plugin."""
    found: dict[str, Tensor] = {}
    encode(attributes_of(plugin, "plugin"), found, "plugin")
    return found


@pytest.mark.parametrize("kind", [EWCPlugin, SynapticIntelligencePlugin])
@pytest.mark.parametrize("step", [3, 6])
def test_avalanches_own_methods_on_weights_resume(tmp_path: Path, kind: Any, step: int) -> None:
    stream, plugins = classic(2, count=60), [kind(100.0) for _ in range(3)]
    whole = train(build(Plain, plugins[0], BreakOff()), stream, tmp_path / "whole", every=None)
    saved(tmp_path / "parts", step, plugins[1])
    again = train(build(Plain, plugins[2], BreakOff()), stream, tmp_path / "parts")
    assert alike(whole, again)
    kept, come_back = tensors_of(plugins[0]), tensors_of(plugins[2])
    assert kept.keys() == come_back.keys() and any(bool(v.any()) for v in kept.values())
    assert all(torch.equal(value, come_back[name]) for name, value in kept.items())


def test_a_tensor_with_a_rule_of_its_own_is_not_saved() -> None:
    holder = SimpleNamespace(kept=ParamData("w", (2,), init_function=torch.ones))
    with pytest.raises(UnsavedError, match=r"Holder\.kept is a avalanche.training.utils.ParamData"):
        attributes_of(holder, "Holder")


META = torch.device("meta")
"""A second device on every machine; it holds no numbers."""


def held() -> SimpleNamespace:
    """Return an object with tensors of both devices, as Avalanche's plugins hold them."""
    there = ParamData("w", (2,), device=META)
    return SimpleNamespace(
        weights={"w": there}, here={"w": ParamData("w", (2,))}, rows=[torch.ones(2, device=META)]
    )


def devices_of(holder: Any) -> list[str]:
    data = (holder.weights["w"], holder.here["w"])
    places = [place for each in data for place in (each.device, each.data.device)]
    return [str(place) for place in (*places, holder.rows[0].device)]


def test_tensors_come_back_to_their_device() -> None:
    again = held()
    again.rows = []
    load_attributes(again, attributes_of(held(), "holder"), META)
    assert devices_of(again) == ["meta", "meta", "cpu", "cpu", "meta"]
    assert again.weights["w"].expand((3,)).device == META


@pytest.mark.parametrize("marked", [True, False], ids=["new", "old"])
def test_tensors_of_another_accelerator_go_to_the_device_of_the_strategy(marked: bool) -> None:
    """An older state does not mark the tensors of an accelerator."""
    kind = f"{ParamData.__module__}:{ParamData.__qualname__}"
    value: Any = {"tensor on": "xpu", "value": torch.ones(2)} if marked else torch.ones(2)
    kept = {"name": "w", "shape": (2,), "device": torch.device("xpu", 3), "_data": value}
    weights = {"w": {"avalanche object": kind, "attributes": kept}}
    again = held()
    load_attributes(again, {"weights": weights, "rows": [value]}, META)
    assert devices_of(again) == ["meta", "meta", "cpu", "cpu", "meta"]


OTHERS: Any = {
    "weight": (lambda: [PKTPlugin(1.0)], lambda: [PKTPlugin(2.0)], r"PKTPlugin\(weight=1\.0\)"),
    "by position": (lambda: [PKTPlugin(1.0)], lambda: [PKTPlugin(weight=1.0)], None),
    "default": (lambda: [PKTPlugin(1.0)], lambda: [PKTPlugin(1.0, teacher="previous")], None),
    "teacher": (
        lambda: [PKTPlugin(1.0)],
        lambda: [PKTPlugin(1.0, teacher="initial")],
        r"PKTPlugin\(teacher='previous'\), and teacher='initial' now",
    ),
    "anchor": (
        lambda: [L2SPPlugin(1.0)],
        lambda: [L2SPPlugin(1.0, anchor="initial")],
        r"L2SPPlugin\(anchor='previous'\)",
    ),
    "neighbours": (
        lambda: [FDAPlugin(1.0, num_neighbors=2)],
        lambda: [FDAPlugin(1.0, num_neighbors=3)],
        r"FDAPlugin\(num_neighbors=2\), and num_neighbors=3 now: make the plugin as before",
    ),
    "batches": (
        lambda: [FDAPlugin(1.0, num_neighbors=2)],
        lambda: [FDAPlugin(1.0, num_neighbors=2, hard_class_batches=False)],
        r"FDAPlugin\(hard_class_batches=",
    ),
    "taps": (
        lambda: [LDIFSPlugin(1.0, taps=("backbone.0", "backbone"))],
        lambda: [LDIFSPlugin(1.0, taps=("backbone.0",))],
        r"LDIFSPlugin\(taps=\['backbone\.0', 'backbone'\]\), and taps=\['backbone\.0'\] now",
    ),
    "cache": (
        lambda: [PKTPlugin(1.0, teacher_cache="off")],
        lambda: [PKTPlugin(1.0, teacher_cache="exact", cache_bytes=2**20)],
        None,
    ),
    "chunks": (
        lambda: [FDAPlugin(1.0, num_neighbors=2)],
        lambda: [FDAPlugin(1.0, num_neighbors=2, chunk_size=5)],
        None,
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_plugin_with_other_arguments_is_refused(tmp_path: Path, case: str) -> None:
    before, now, words = OTHERS[case]
    strategies = [build(Plain, *make()) for make in (before, now)]
    Checkpoints(strategies[0], tmp_path).save()
    checkpoints = Checkpoints(strategies[1], tmp_path)
    if words is None:
        assert checkpoints.resume() is not None
        return
    with pytest.raises(CheckpointError, match=words):
        checkpoints.resume()


def test_the_recommended_set_with_another_strength_is_refused(tmp_path: Path) -> None:
    strategies = []
    for strength in (1.0, 2.0):
        plugins = recommended(Plain(), structural=strength)
        strategies.append(build(Plain, *plugins))
    Checkpoints(strategies[0], tmp_path).save()
    checkpoints = Checkpoints(strategies[1], tmp_path)
    with pytest.raises(CheckpointError, match=r"SoftFDAPlugin\(weight=1\.0\), and weight=2\.0"):
        checkpoints.resume()


def test_a_folder_that_is_a_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"folder=.*file is a file: give a folder"):
            Checkpoints(build(Plain), folder)
    Checkpoints(build(Plain), tmp_path / "new" / "below")
    assert not (tmp_path / "new").exists()


def test_parts_of_an_online_experience_are_not_compared(tmp_path: Path) -> None:
    parts = [
        part
        for experience in classic(2, count=60).train_stream
        for part in split_online_stream([experience], experience_size=15)
    ]
    assert [part.current_experience for part in parts] == [0, 1, 0, 1]
    again, first = build(Plain), build(Plain)
    checkpoints = Checkpoints(first, tmp_path)
    for part in parts[:3]:
        first.train(part, eval_streams=[])
    checkpoints.save()
    found = Checkpoints(again, tmp_path).resume()
    assert found is not None and found.experiences == 3
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the checkpoint was saved")
        again.train(parts[3], eval_streams=[])


@pytest.mark.parametrize("name", ["l2sp", "pkt", "fda"])
def test_a_weight_that_the_script_changes_comes_back(name: str, tmp_path: Path) -> None:
    benchmark, ends = classic(3, count=60), []

    def trained(folder: Path, last: int) -> Any:
        own = toy_plugin(name, weight=0.25)
        strategy = build(Plain, own)
        checkpoints = Checkpoints(strategy, folder)
        found = checkpoints.resume()
        for experience in benchmark.train_stream[found.experiences if found else 0 : last]:
            strategy.train(experience, eval_streams=[])
            own.weight *= 4
            checkpoints.save()
        ends.append(own.weight)
        return strategy

    whole = trained(tmp_path / "whole", 3)
    trained(tmp_path / "parts", 2)
    torch.manual_seed(5)
    assert alike(whole, trained(tmp_path / "parts", 3)) and ends == [16.0, 4.0, 16.0]
