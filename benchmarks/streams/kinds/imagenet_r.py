"""The kind ``imagenet-r``: Split ImageNet-R, a group of classes at a time."""

from __future__ import annotations

from typing import Any

from avalanche_proxyfda.streams.files.download import download
from avalanche_proxyfda.streams.files.images import scan as scan_paths
from avalanche_proxyfda.streams.files.labelled import Labelled
from avalanche_proxyfda.streams.imagenet_r import image_paths, split_imagenet_r
from benchmarks.config import Config, ImageNetR, plain
from benchmarks.results.places import scrubbed
from benchmarks.streams.sets import warn_dropped
from benchmarks.streams.stream import Stream
from benchmarks.streams.views import Views


def build(config: Config, views: Views) -> Stream:
    """Build the stream; the archive is downloaded first if ``where.url`` is set.

    Raises:
        FileNotFoundError: if the images are missing.
        ValueError: if the images do not make the split.
        OSError: if the download fails.
    """
    options = config.stream
    assert isinstance(options, ImageNetR)
    fetch(config, options)
    benchmark = split_imagenet_r(
        config.at(options.root),
        options.num_experiences,
        options.split,
        options.order,
        options.lists and (config.at(options.lists[0]), config.at(options.lists[1])),
        views.train,
        views.evaluation,
        options.on_corrupt,
        validation_share=options.validation_share,
    )
    content = plain(config)
    dropped = {
        place: scrubbed(reason, content) for place, reason in benchmark.summary["dropped"].items()
    }
    warn_dropped("imagenet-r", list(dropped))
    return Stream(
        train=benchmark.train_stream,
        test=benchmark.test_stream,
        validation=benchmark.validation_stream,
        classes=(tuple(benchmark.summary["wnids"]),),
        tasks=False,
        grows=True,
        names=tuple(f"classes {e.current_experience}" for e in benchmark.train_stream),
        summary={**benchmark.summary, "dropped": dropped},
        sources=tuple(_sources(benchmark, k) for k in range(options.num_experiences)),
    )


def _sources(benchmark: Any, experience: int) -> dict[str, Labelled]:
    """Images of an experience by split, in the order of their files, with labels of learning."""
    learnt = benchmark.summary["class_order"]
    size = len(learnt) // benchmark.summary["num_experiences"]
    place = {c: k for k, c in enumerate(learnt) if k // size == experience}
    sources = {}
    for split, files in benchmark.image_files.items():
        rows = tuple(k for k, target in enumerate(files.targets) if target in place)
        sources[split] = Labelled(files, rows, tuple(place[files.targets[k]] for k in rows))
    return sources


def scan(config: Config) -> tuple[int, dict[str, str]]:
    """Read every image once, in whichever split it is.

    Raises:
        FileNotFoundError: if the images are missing.
        OSError: if the download fails.
    """
    assert isinstance(config.stream, ImageNetR)
    fetch(config, config.stream)
    paths = image_paths(config.at(config.stream.root))
    return len(paths), {str(path): reason for path, reason in scan_paths(paths).items()}


def fetch(config: Config, options: ImageNetR) -> None:
    """Download the archive to ``stream.root`` if ``where.url`` is set and nothing is there.

    Raises:
        ValueError: if ``stream.root`` is not the name of an archive, or the digest differs.
        OSError: if the download fails.
    """
    root, where = config.at(options.root), config.where
    if where.url is None or root.exists():
        return
    if not root.name.endswith((".tar", ".tar.gz", ".tgz", ".zip")):
        raise ValueError(
            f"where.url is an archive, but stream.root={options.root!r} has no archive's name: "
            "set stream.root=imagenet-r.tar"
        )
    download(where.url, root, where.sha256, where.md5)
