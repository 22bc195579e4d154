"""Broken images of a data set: which they are, and the data set without them."""

from __future__ import annotations

from dataclasses import replace

from avalanche_proxyfda.streams.files.folder_parts import listed
from avalanche_proxyfda.streams.files.images import scan_items
from avalanche_proxyfda.streams.files.labelled import SPLITS, DataSet


def broken(data: DataSet) -> dict[str, dict[int, str]]:
    """Read every image; return the reason for each broken image, by split and index."""
    return {split: scan_items(getattr(data, split), f"{data.name} {split}") for split in SPLITS}


def without_broken(data: DataSet) -> tuple[DataSet, dict[str, str]]:
    """The data set without its broken images, and the reason for each of them, by place.

    Raises:
        ValueError: if a split has no image left, or a class has no training image left.
    """
    reasons = broken(data)
    parts = {split: getattr(data, split).without(places) for split, places in reasons.items()}
    empty = [split for split, part in parts.items() if not len(part) and reasons[split]]
    if empty:
        raise ValueError(
            f"{data.name}: no readable image is left for {', '.join(empty)}: restore broken files"
        )
    lost = sorted(set(range(len(data.classes))) - set(parts["train"].targets))
    if lost:
        raise ValueError(
            f"{data.name}: no readable training image of {listed(data.classes[k] for k in lost)}: "
            "restore its files, or remove the class"
        )
    dropped: dict[str, str] = {}
    for split, places in reasons.items():
        part = getattr(data, split)
        names = part.placed()
        for k, reason in places.items():
            where, file = names[k][0], part.file(k)
            # records keep the reason, and no path of the machine
            short = reason if file is None else reason.replace(str(file), where)
            dropped[f"{data.name} {split} {where}"] = short
    return replace(data, **parts), dropped
