"""Times one measurement of a panel: ``python -m benchmarks.perf.panel``.

The panel has eight data sets of 1 000 training and 500 test images. The embedded model runs on
one thread. The measurement has four parts: the features, the linear probe with the choice of
its penalty, k-NN, and drift.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch.utils.data import TensorDataset

from avalanche_proxyfda.metrics import DriftMetric, KNNMetric, LinearProbeMetric, Panel, PanelSet
from benchmarks._printing import print_every_character
from benchmarks.models import tiny_clip
from benchmarks.streams.concepts.data import COUNTS, PANEL, SEQUENCE, concept


def main(sets: int = 8, repeats: int = 3) -> None:
    """Print the median seconds of each part, and their sum."""
    torch.set_num_threads(1)

    def split(name: str, start: int, count: int) -> TensorDataset:
        parts = [concept(name, part) for part in COUNTS]
        images = torch.cat([p.images for p in parts]).repeat(2, 1, 1, 1)
        labels = torch.cat([torch.tensor(p.targets) for p in parts]).repeat(2)
        return TensorDataset(images[start : start + count], labels[start : start + count])

    names = (*PANEL, *SEQUENCE)[:sets]
    panel = Panel([PanelSet(n, split(n, 0, 1000), split(n, 1000, 500)) for n in names], "visual")
    model, device = tiny_clip.load(), torch.device("cpu")
    model.forward = model.encode_image  # type: ignore[method-assign]
    seconds: dict[str, list[float]] = {}

    def timed(name: str, started: float) -> None:
        seconds.setdefault(name, []).append(time.perf_counter() - started)

    for _ in range(repeats):
        started = time.perf_counter()
        features_of = panel.of(model, device)
        timed("features", started)
        for metric in (LinearProbeMetric(panel), KNNMetric(panel), DriftMetric(panel)):
            started = time.perf_counter()
            for features in features_of.values():
                metric.measure(features)
            timed(metric.symbol, started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        print(f"{name:10} {value:6.2f} s")
    print(f"{'all':10} {sum(medians.values()):6.2f} s for {len(names)} sets, one thread")


if __name__ == "__main__":
    print_every_character()
    main()
