"""``train.pipeline`` in a run: workers, resumes, caches, passes, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from avalanche_proxyfda.data.steady import SteadyLoader
from benchmarks.config import Config, complaint, plain
from benchmarks.experiment import run as run_module
from benchmarks.experiment.run import run
from benchmarks.experiment.training import StepTimer
from benchmarks.results.identity import run_id_of
from tests.benchmarks.miniature import config


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("jpegs")
    for seed, name in enumerate(("photo", "sketch")):
        for part, count in (("train", 12), ("test", 4)):
            for k, word in enumerate(("dog", "cat", "owl")):
                folder = root / name / part / word
                folder.mkdir(parents=True)
                for n in range(count):
                    random = np.random.default_rng((seed, k, n, count))
                    pixels = random.integers(0, 90, (36, 48, 3)).astype(np.uint8)
                    pixels[:: k + 2] += 120
                    Image.fromarray(pixels).save(folder / f"{n:03d}.jpg", quality=90)
    return root


def made(data: Path, where: dict[str, Any] | None = None, **train: Any) -> Config:
    options, panel = train.pop("options", {}), train.pop("panel", ())
    return config(
        data,
        method="fda",
        strength=1.0,
        options={"num_neighbors": 3, **options},
        panel={"sets": list(panel)},
        stream={"kind": "sequence", "sets": ["folder:photo"]},
        train={"lr": 1e-4, "batch": 9, "eval_batch": 20, "epochs": 2, **train},
        where={"data": str(data), "device": "cpu", **(where or {})},
    )


def numbers(record: Any) -> str:
    return json.dumps([record.outcome, record.panel], default=vars, sort_keys=True)


def test_the_old_path_keeps_its_identity_and_a_new_one_has_its_own(jpegs: Path) -> None:
    plainly = made(jpegs)
    assert plainly.train.pipeline == "pil"
    content = plain(plainly)
    ids = {made(jpegs, pipeline=p).identity for p in ("pil", "tensor", "cached")}
    assert len(ids) == 3 and plainly.identity in ids
    del content["train"]["pipeline"]
    assert run_id_of(content) == plainly.identity  # records from before the key have the same id
    assert made(jpegs, {"pixel_dir": "rows"}, pipeline="cached").identity in ids


def test_stored_rows_without_augmentation_change_no_number(jpegs: Path) -> None:
    train: dict[str, Any] = {"batches": "shuffled", "panel": ["folder:sketch"]}
    decoded = run(made(jpegs, pipeline="tensor", **train))
    stored = run(made(jpegs, {"pixel_dir": "rows"}, pipeline="cached", **train))
    assert numbers(stored) == numbers(decoded)
    assert len(list((jpegs / "rows").glob("*.pixels"))) == 6  # three splits of stream and panel


class Stopped(Exception):  # noqa: N818 (no error)
    pass


def test_neither_workers_nor_a_resume_in_the_middle_of_an_epoch_change_a_number(
    jpegs: Path, tmp_path: Path
) -> None:
    train: dict[str, Any] = {"pipeline": "tensor", "augment": "flip-crop"}
    expected, steps = run(made(jpegs, **train)), 0

    def stop(made: int) -> None:
        nonlocal steps
        steps += 1
        if steps == 7:  # of 5 an epoch; the checkpoint is that of step 6
            raise Stopped

    killed = made(jpegs, {"checkpoint_steps": 3}, workers=1, **train)
    with pytest.raises(Stopped):
        run(killed, after_step=stop, checkpoint=tmp_path / "saved")
    assert expected.cost.steps == 10
    ticks: list[int] = []
    resumed = run(killed, after_step=ticks.append, checkpoint=tmp_path / "saved")
    assert ticks == [-6, 1, 1, 1, 1]
    assert resumed.resumed_from and numbers(resumed) == numbers(expected)


def test_the_teachers_cache_hits_where_views_repeat_and_gives_the_same_numbers(
    jpegs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches: list[tuple[int, int]] = []

    class Look(StepTimer):
        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            super().after_training_iteration(strategy, **kwargs)
            assert isinstance(strategy.dataloader, SteadyLoader)
            for plugin in strategy.plugins:
                cache = getattr(getattr(plugin, "reference", None), "cache", None)
                if cache is not None:
                    caches.append((cache.hits, cache.lookups))

    monkeypatch.setattr(run_module, "StepTimer", Look)
    exact = {"teacher_cache": "exact"}
    kept = run(made(jpegs, exact, pipeline="tensor", batches="shuffled", epochs=3))
    assert caches[-1] == (2 * caches[-1][1] // 3, caches[-1][1])
    live = run(made(jpegs, pipeline="tensor", batches="shuffled", epochs=3))
    assert kept.outcome is not None and live.outcome is not None
    for name, values in live.outcome.loss_terms[0].items():
        assert np.allclose(kept.outcome.loss_terms[0][name], values, rtol=1e-3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no view comes again"):
        run(made(jpegs, exact, pipeline="tensor", augment="flip-crop"))
    caches.clear()
    run(
        made(
            jpegs,
            exact,
            pipeline="cached",
            augment="flip-crop",
            batches="shuffled",
            epochs=4,
            options={"cache_views": 2},
        )
    )
    hits, lookups = caches[-1]
    assert hits == lookups // 2  # the third and the fourth epoch repeat the first two


def test_what_has_no_uint8_view_is_refused(jpegs: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.pipeline='tensor'.*library"):
        run(made(jpegs, pipeline="tensor", augment="library"))
    with pytest.raises(ValueError, match="holds inputs of the model"):
        run(config(jpegs, method="finetune", panel={"sets": []}, train={"pipeline": "tensor"}))
    with pytest.raises(ValidationError) as refused:
        made(jpegs, pipeline="tensors")
    assert "train.pipeline" in complaint(refused.value)


def test_images_that_pil_reads_are_said(data: Path) -> None:
    png = made(data, pipeline="tensor")
    with pytest.warns(UserWarning, match="read at the speed of PIL"):
        run(png)
