"""Zero-shot and probe accuracy of the embedded model: ``python -m benchmarks.tiny_clip.measure``.

Prints the table of MODEL_CARD.md, on the test splits of the concepts stream's data sets.
"""

from __future__ import annotations

import torch

from avalanche_proxyfda.losses.neighbors import unit_rows
from benchmarks import tiny_clip
from benchmarks.engine import embed, probe_accuracy
from benchmarks.streams.concepts import PANEL, SEQUENCE, concept
from benchmarks.tiny_clip.pretrain import caption_accuracy


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    model = tiny_clip.load()
    print("| data set | classes | zero-shot | linear probe |\n| --- | --- | --- | --- |")
    for name in (*SEQUENCE, *PANEL):
        data = concept(name, "test")
        text = model.encode_text(tiny_clip.tokenize(list(data.classes)), normalize=True)
        nearest = (unit_rows(embed(model.visual, data.images)) @ text.T).argmax(dim=1)
        zero_shot = float((nearest == torch.tensor(data.targets)).float().mean())
        probe = probe_accuracy(model.visual, name, "test")
        print(f"| {name} | {len(data.classes)} | {100 * zero_shot:.1f} | {100 * probe:.1f} |")
    print(f"\ncaption accuracy among 128: {100 * caption_accuracy(model):.1f} %")


if __name__ == "__main__":
    main()
