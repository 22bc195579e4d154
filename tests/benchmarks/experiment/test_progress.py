"""The kept features of a panel grow neither with the moments of a run nor with the runs."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from avalanche_proxyfda.checkpoint import CheckpointError
from avalanche_proxyfda.checkpoint.files import read_state, write_state
from benchmarks.config import Config, read
from benchmarks.experiment import measure
from benchmarks.experiment.begin import check_begun
from benchmarks.experiment.data import MOST_KEPT
from benchmarks.experiment.measure import PanelMoment, pretrained_panel
from benchmarks.experiment.progress import Progress

ACCURACIES: Any = {"validation": {"a": 0.5}, "test": {"a": 0.25}}


def measured(seed: int) -> PanelMoment:
    rows = torch.randn(200, 16, generator=torch.Generator().manual_seed(seed))
    return PanelMoment(ACCURACIES, None, {"a": (rows, torch.arange(200) % 3)})


def progress_of(moments: int) -> Progress:
    progress = Progress(moments={0: measured(0)})
    for after in range(1, moments):
        progress.moments[after] = measured(after).compared(progress.moments[0], after == moments)
    return progress


def test_a_checkpoint_holds_the_features_of_one_moment(tmp_path: Path) -> None:
    sizes = []
    for count in (2, 12):
        file = write_state(tmp_path / str(count), progress_of(count).plain())
        sizes.append(file.stat().st_size)
    assert sizes[1] - sizes[0] < 12 * 500 < 200 * 16 * 4  # ten moments take text alone
    found = Progress.of(read_state(file))
    last, expected = found.moments[11], progress_of(12).moments[11]
    assert last.drift == expected.drift and last.drift["a"]
    late = measured(20)  # a resumed run compares with the same features
    assert late.compared(found.moments[0]).drift == late.drift_since(measured(0))


def test_a_checkpoint_with_the_features_of_every_moment_is_refused() -> None:
    content = progress_of(2).plain()
    for parts in content["moments"].values():
        del parts["drift"]
    with pytest.raises(CheckpointError, match=r"earlier version.*give --no-resume"):
        Progress.of(content)


def test_an_older_checkpoint_has_no_hashes_of_what_its_run_began_with(tmp_path: Path) -> None:
    content = progress_of(1).plain()
    del content["begun"]
    older, now = Progress.of(content), {"the weights": "b"}
    check_begun(older.begun, now, tmp_path)
    check_begun({"the weights": "b", "the texts": "c"}, now, tmp_path)
    with pytest.raises(CheckpointError, match=r"under the same names: the weights changed since"):
        check_begun({"the weights": "a"}, now, tmp_path)


def test_a_process_keeps_the_first_moment_of_few_configurations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    def noted(model: nn.Module, panel: Any, heads: Any, config: Config, device: Any) -> PanelMoment:
        seen.append(config.train.eval_batch)
        return measured(len(seen))

    monkeypatch.setattr(measure, "measure_panel", noted)
    monkeypatch.setattr(measure, "_PRETRAINED", OrderedDict())
    for size in (1, 2, 3, 4, 1, 5, 1, 2):
        config = read({"train": {"eval_batch": size}})
        pretrained_panel(nn.Identity(), [], None, config, torch.device("cpu"))
    assert seen == [1, 2, 3, 4, 5, 2]  # 2 was the oldest of four
    assert len(measure._PRETRAINED) == MOST_KEPT == 4


@pytest.mark.parametrize(
    "key", [{"compile": True}, {"channels_last": True}, {"precision": "bf16"}, {"tf32": True}]
)
def test_settings_that_change_bits_have_a_first_moment_of_their_own(
    key: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter(range(9))
    monkeypatch.setattr(measure, "measure_panel", lambda *_: measured(next(moments)))
    monkeypatch.setattr(measure, "_PRETRAINED", OrderedDict())
    for train in ({}, key, {}):
        pretrained_panel(nn.Identity(), [], None, read({"train": train}), torch.device("cpu"))
    assert len(measure._PRETRAINED) == 2
