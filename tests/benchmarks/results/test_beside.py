"""Files that runs write beside their records are skipped; any other file is named."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from avalanche_proxyfda import save_tuned
from benchmarks.models.backbone import build_backbone
from benchmarks.results.files import collect, write_record
from tests.benchmarks.records import finished, recipe

CONFIG = recipe("finetune")


def written(path: Path, text: str = "{}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_files_of_runs_are_skipped_and_others_named(tmp_path: Path) -> None:
    record = finished(CONFIG)
    write_record(tmp_path / f"{record.label}.json", record)
    backbone = build_backbone(CONFIG)
    model = nn.Module()
    model.add_module("tower", backbone.tower)
    model.add_module("head", nn.Linear(backbone.dim, 2))
    for folder in (tmp_path / record.label, tmp_path / "exported" / record.label):
        save_tuned(folder, model, backbone, {"all": ["a", "b"]}, {"method": "fda"})
    log = Path(record.label, "wandb/run-1/files/wandb-summary.json")
    written(tmp_path / log)
    found = collect([tmp_path])
    assert len(found.records) == 1 and found.refused == {}
    named = {
        written(tmp_path / "other" / log.relative_to(record.label)),  # of no record
        written(tmp_path / record.label / "notes.json"),
        written(tmp_path / "alone/model.json"),
        written(tmp_path / "exported" / "damaged" / "model.json", "{"),
    }
    (tmp_path / "exported/damaged/model.safetensors").write_bytes(b"")
    refused = collect([tmp_path]).refused
    assert sorted(refused) == sorted(str(path.relative_to(tmp_path)) for path in named)
    given = tmp_path / "exported" / record.label / "model.json"
    assert list(collect([given]).refused) == ["model.json"]  # it was asked for
