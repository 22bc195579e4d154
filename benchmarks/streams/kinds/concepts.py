"""The kind ``concepts``: the embedded data sets, one after the other."""

from __future__ import annotations

from avalanche_proxyfda.streams.files.images import list_hash
from benchmarks.config import Concepts, Config
from benchmarks.streams.concepts.data import SPLITS, concept, concepts, embedded_hash
from benchmarks.streams.stream import Stream
from benchmarks.streams.views import Views


def build(config: Config, views: Views) -> Stream:
    """Build the stream; the data sets hold inputs of tiny-clip, so ``views`` are not used.

    Raises:
        ValueError: if the backbone is not tiny-clip, or there are fewer digits than
            ``stream.train_images``.
    """
    assert isinstance(config.stream, Concepts)
    if config.backbone.name != "tiny-clip":
        raise ValueError(
            f"backbone.name={config.backbone.name!r}: the concepts stream holds inputs of "
            "tiny-clip; set backbone.name=tiny-clip"
        )
    if config.train.pipeline != "pil":
        raise ValueError(
            f"train.pipeline={config.train.pipeline!r}: the concepts stream holds inputs of the "
            "model and no images; set train.pipeline=pil"
        )
    names, count = config.stream.learnt, config.stream.train_images
    tested, validated = concepts("test", names, count), concepts("validation", names, count)
    sources = tuple({split: concept(name, split, count) for split in SPLITS} for name in names)
    classes = tuple(parts["train"].classes for parts in sources)
    hashes = [f"{name} {embedded_hash(name, count)}" for name in dict.fromkeys(names)]
    summary = {
        "stream": "concepts",
        "split_sha256": list_hash(hashes),
        "sets": [
            {"name": name, "classes": len(words), "splits": "drawn from disjoint seeds"}
            | {split: len(data) for split, data in parts.items()}
            for name, words, parts in zip(names, classes, sources, strict=True)
        ],
    }
    return Stream(
        train=tested.train_stream,
        test=tested.test_stream,
        validation=validated.test_stream,
        classes=classes,
        tasks=True,
        grows=False,
        names=names,
        summary=summary,
        sources=sources,
    )


def scan(config: Config) -> tuple[int, dict[str, str]]:
    """No image is read: the data sets are drawn, not stored."""
    return 0, {}
