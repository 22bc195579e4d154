"""``stream.shots``, ``shots_list`` and ``validation_share=0`` in a stream and a run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from benchmarks.config import complaint, path_configs, read
from benchmarks.experiment.run import run
from benchmarks.results import scores
from benchmarks.results.files import read_record, write_record
from benchmarks.streams.panel import load_panel
from benchmarks.streams.registry import load_stream, scan_images
from tests.benchmarks.miniature import config, views_of


def made(data: Path, **stream: Any) -> Any:
    return config(
        data,
        panel={"sets": ["folder:grey"]},
        head={"kind": "zero-shot"},
        train={"batch": 32, "eval_batch": 50, "steps": 1},
        stream={"kind": "sequence", "sets": ["folder:photo", "folder:sketch"], **stream},
    )


def stream_of(own: Any) -> Any:
    return load_stream(own, views_of(own))


def test_a_run_of_few_shots_without_validation(data: Path, tmp_path: Path) -> None:
    own = made(data, shots=5, validation_share=0)
    few = stream_of(own)
    for experience in few.train:
        assert Counter(map(int, experience.dataset.targets)) == {0: 5, 1: 5, 2: 5}
    assert few.validation is None and [set(s) for s in few.sources] == [{"train", "test"}] * 2
    record: Any = run(own)
    assert record.stream.train == (15, 15) and record.stream.validation is None
    assert scores.validation_accuracy(record) is None and scores.score(record) is None
    assert scores.last(record) > 0 and record.cost.steps == 2
    write_record(tmp_path / "a.json", record)
    assert read_record(tmp_path / "a.json") == record
    (panel,) = load_panel(own, views_of(own))  # the panel keeps all images and a validation split
    assert panel.counts == load_panel(made(data), views_of(own))[0].counts
    assert scan_images(own) == scan_images(made(data)) == (2 * 96 + 32, {})


def test_the_choice_is_part_of_the_split(data: Path, tmp_path: Path) -> None:
    words = ("dog", "cat", "owl")
    lists = {name: {w: [f"{w}/000.png"] for w in words} for name in ("photo", "folder:sketch")}
    path = tmp_path / "shots.json"
    path.write_text(json.dumps(lists), encoding="utf-8")
    changes: list[dict[str, Any]] = [
        {},
        {"validation_share": 0},
        {"shots": 4},
        {"shots": 4, "shots_seed": 1},
        {"shots": 4, "validation_share": 0},
        {"shots_list": str(path), "validation_share": 0},
    ]
    configs = [made(data, **each) for each in changes]
    streams = [stream_of(own) for own in configs]
    assert [len(s.train[0].dataset) for s in streams] == [66, 72, 12, 12, 12, 3]
    assert len({s.summary["split_sha256"] for s in streams}) == 6
    assert len({own.identity for own in configs}) == 6
    assert stream_of(made(data, shots=4)).summary == streams[2].summary
    whole = made(data, validation_share=0)
    elsewhere = {"kind": "sequence", "sets": [f"folder:{data}/photo"], "shots": 4}
    other = config(tmp_path, panel={"sets": []}, stream=elsewhere)
    first = [set(s.sources[0]["train"].rows) for s in (streams[2], stream_of(other))]
    assert first[0] == first[1]  # the folder of a machine does not choose
    del lists["photo"]
    path.write_text(json.dumps(lists), encoding="utf-8")
    with pytest.raises(ValueError, match=r"has no 'photo': it lists folder:sketch"):
        stream_of(configs[-1])
    with pytest.raises(ValueError, match=r"set stream\.validation_share above 0"):
        path_configs(read({"method": "l2sp", "strength": 1, "stream": _plain(whole)}), [1.0, 2.0])


def _plain(own: Any) -> dict[str, Any]:
    return {"kind": "sequence", "sets": list(own.stream.sets), "validation_share": 0}


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        ({"shots": 0}, "stream.shots=0"),
        ({"shots": 1.5}, "stream.shots=1.5"),
        ({"shots": 2, "shots_seed": -1}, "stream.shots_seed=-1"),
        ({"shots_seed": 1}, "shots_seed=1 has no effect without shots"),
        ({"shots": 2, "shots_list": "a.json"}, "shots=2 and shots_list='a.json' both choose"),
        ({"validation_share": -0.1}, "stream.validation_share=-0.1"),
    ],
    ids=str,
)
def test_other_values_are_refused(stream: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as told:
        read({"stream": {"kind": "sequence", "sets": ["MNIST"], **stream}})
    assert words in complaint(told.value)
