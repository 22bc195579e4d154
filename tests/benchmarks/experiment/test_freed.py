"""A finished run's model is freed at once: nothing waits for the garbage collector."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from benchmarks.config import read
from benchmarks.experiment import run as run_module


def test_a_finished_run_is_freed_without_the_garbage_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: dict[str, Any] = {}
    build = run_module.build_strategy

    def watched(prepared: Any, *given: Any) -> Any:
        strategy = build(prepared, *given)
        first = next(prepared.model.parameters())
        parts = [strategy, prepared.model, prepared.optimizer, first, *strategy.plugins]
        held.update({type(part).__name__: weakref.ref(part) for part in parts})
        return strategy

    monkeypatch.setattr(run_module, "build_strategy", watched)
    config = read(
        {
            "stream": {"kind": "concepts", "sets": ["colours"]},
            "panel": {"sets": []},
            "method": "fda",
            "strength": 1.0,
            "train": {"lr": 1e-4, "batch": 256, "eval_batch": 200},
            "where": {"device": "cpu"},
        }
    )
    gc.disable()
    try:
        run_module.run(config, checkpoint=tmp_path)
        alive = [name for name, part in held.items() if part() is not None]
    finally:
        gc.enable()
    assert len(held) > 8 and alive == []
