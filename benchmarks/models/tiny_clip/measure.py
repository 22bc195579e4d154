"""Measures the embedded model: ``python -m benchmarks.models.tiny_clip.measure``.

The module prints the table of MODEL_CARD.md: zero-shot and probe accuracy on the test splits of
the embedded data sets.
"""

from __future__ import annotations

import torch

from avalanche_proxyfda._tensors import unit_rows
from avalanche_proxyfda.metrics import Panel, PanelSet, select_probe
from benchmarks._printing import print_every_character
from benchmarks.models import tiny_clip
from benchmarks.models.tiny_clip.pretrain import caption_accuracy
from benchmarks.streams.concepts.data import PANEL, SEQUENCE, concept


@torch.no_grad()
def main() -> None:
    """Measure the accuracies and print the table."""
    torch.set_num_threads(1)
    model = tiny_clip.load()
    print("| data set | classes | zero-shot | linear probe |\n| --- | --- | --- | --- |")
    sets = [
        PanelSet(n, concept(n, "train"), concept(n, "test"), concept(n, "validation"))
        for n in (*SEQUENCE, *PANEL)
    ]
    tower = torch.nn.Sequential(model.visual)
    for name, features in Panel(sets, "0").of(tower, torch.device("cpu")).items():
        rows, labels = features.splits["test"]
        classes = concept(name, "test").classes
        text = model.encode_text(tiny_clip.tokenize(list(classes)), normalize=True)
        zero_shot = float(((unit_rows(rows) @ text.T).argmax(dim=1) == labels).float().mean())
        probe = select_probe(*features.choosing(), features.classes).accuracy(rows, labels)
        print(f"| {name} | {len(classes)} | {100 * zero_shot:.1f} | {100 * probe:.1f} |")
    print(f"\ncaption accuracy among 128: {100 * caption_accuracy(model):.1f} %")


if __name__ == "__main__":
    print_every_character()
    main()
