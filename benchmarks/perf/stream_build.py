"""Times the building of Split ImageNet-R: ``python -m benchmarks.perf.stream_build``.

30 000 empty files in 200 folders stand for the data set. No image is opened.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import avalanche.benchmarks  # noqa: F401 (the import must not be timed)

from avalanche_proxyfda.streams.imagenet_r import split_imagenet_r
from avalanche_proxyfda.streams.imagenet_r_splits import CLASSES
from benchmarks._printing import print_every_character


def main(repeats: int = 5) -> None:
    """Print the median time of ``repeats`` builds."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "imagenet-r"
        for k in range(CLASSES):
            (root / f"n{10_000_000 + k:08d}").mkdir(parents=True)
            for number in range(150):
                (root / f"n{10_000_000 + k:08d}" / f"art_{number}.jpg").touch()
        seconds = []
        for _ in range(repeats):
            started = time.perf_counter()
            summary = split_imagenet_r(root, 10).summary
            seconds.append(time.perf_counter() - started)
    print(
        f"{summary['train']} train and {summary['test']} test files in 10 experiences: "
        f"{statistics.median(seconds):.2f} s (median of {repeats})"
    )


if __name__ == "__main__":
    print_every_character()
    main()
