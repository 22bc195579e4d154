"""``--scan``: read every image of a stream and its panel once."""

from __future__ import annotations

from benchmarks.config import Config, ImageNetR, Sequence
from benchmarks.streams import datasets
from benchmarks.streams.build import EMBEDDED, fetch, load_set
from benchmarks.streams.images import scan
from benchmarks.streams.split_imagenet_r import image_paths


def scan_images(config: Config) -> tuple[int, dict[str, str]]:
    """How many images there are, and what is wrong with those that cannot be read.

    The stream is not built, since what is broken may keep it from being built.

    Raises:
        FileNotFoundError, ValueError: when data are not there.
    """
    count, found = 0, {}
    if isinstance(config.stream, ImageNetR):
        fetch(config, config.stream)
        paths = image_paths(config.at(config.stream.root))
        count = len(paths)
        found = {str(path): reason for path, reason in scan(paths).items()}
    names = [*config.stream.sets] if isinstance(config.stream, Sequence) else []
    for name in [*names, *(n for n in config.panel.sets if n not in EMBEDDED)]:
        data = load_set(config, name)
        for split, reasons in datasets.broken(data).items():
            part = getattr(data, split)
            count += len(part)
            places = part.placed()
            found |= {f"{name} {split} {places[k][0]}": r for k, r in reasons.items()}
    return count, found
