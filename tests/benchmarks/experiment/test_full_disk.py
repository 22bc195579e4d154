"""A run on a disk without room for checkpoints ends with its record."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.experiment.run import run
from tests.benchmarks.miniature import config
from tests.checkpoint.test_files import full_disk


def test_a_run_without_room_for_checkpoints_ends_with_its_record(tmp_path: Path) -> None:
    made = config(
        tmp_path,
        method="finetune",
        head={"kind": "random"},
        stream={"kind": "concepts", "sets": ["shapes"], "train_images": 50},
        panel={"sets": []},
        train={"steps": 1, "batch": 8, "eval_batch": 200},
    )
    with full_disk(100_000), pytest.warns(UserWarning, match="no checkpoint could be sav") as told:
        record = run(made, checkpoint=tmp_path / "c")
    # after the last step of the experience, and after its evaluation
    said = [str(w.message) for w in told if "no checkpoint could be saved" in str(w.message)]
    assert len(said) == 2 and all("c/checkpoint.safetensors" in text for text in said)
    assert record.status == "finished" and record.outcome is not None
    assert len(record.outcome.accuracy) == 2 and list((tmp_path / "c").iterdir()) == []
