"""The panel of a run: data sets that are probed and never learnt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch.utils.data import Dataset, Subset

from avalanche_proxyfda.metrics import Panel, PanelSet
from avalanche_proxyfda.streams.files.datasets import unknown_set
from avalanche_proxyfda.streams.files.encoded import for_view
from avalanche_proxyfda.streams.files.images import list_hash
from avalanche_proxyfda.streams.files.labelled import Labelled
from avalanche_proxyfda.streams.files.torchvision_sets import TORCHVISION
from avalanche_proxyfda.streams.sequence import Transform
from benchmarks.config import Config, plain
from benchmarks.results.places import panel_word, scrubbed
from benchmarks.streams.concepts.data import EMBEDDED, SPLITS, Split, concept, embedded_hash
from benchmarks.streams.sets import SetOptions, load_set, scan_set, shown_names
from benchmarks.streams.thinning import thinned
from benchmarks.streams.views import Views


@dataclass(frozen=True, eq=False)
class PanelData:
    """One data set of the panel.

    Attributes:
        images: inputs of the tower with labels, by split.
        counts: number of images by split.
        sha256: identity of the images.
        dropped: reason for each dropped broken image, by place.
        classes: class names by label.
        sources: images as they are stored, by split, in the order of ``images``.
        name: the data set as the configuration names it; empty: the name of ``images``.
    """

    images: PanelSet
    counts: dict[Split, int]
    sha256: str
    dropped: dict[str, str]
    classes: tuple[str, ...]
    sources: dict[Split, Any] = field(default_factory=dict)
    name: str = ""


class _Viewed(Dataset[tuple[Any, int]]):
    """Images of PIL through a view."""

    def __init__(self, data: Labelled, view: Transform) -> None:
        self.data, self.view = for_view(data, view), view

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, label = self.data[index]
        return self.view(image), label


def load_panel(config: Config, views: Views) -> list[PanelData]:
    """Load the panel of ``config``.

    A split has at most ``panel.train`` or ``panel.test`` images. Classes take turns in the
    choice, and every method and seed gets the same images.

    Raises:
        FileNotFoundError: if a data set is missing.
        ValueError: if a data set is refused, or two have the same name.
    """
    panel = [_panel_set(config, name, views) for name in config.panel.sets]
    if panel:
        Panel([data.images for data in panel])  # raises if names repeat
    return panel


def scan_panel(config: Config) -> tuple[int, dict[str, str]]:
    """Read every image of the panel once; the embedded data sets need no reading.

    Returns:
        The number of images, and the reason for each broken image, by place.

    Raises:
        FileNotFoundError, ValueError: see :func:`avalanche_proxyfda.streams.files.datasets.load`;
            a ValueError names the sets that are most like an unknown name.
    """
    count, reasons = 0, {}
    for name in config.panel.sets:
        _check_name(config, name)
        if name not in EMBEDDED:
            images, broken = scan_set(name, config.at(""), SetOptions.of_panel(config.stream))
            count += images
            reasons |= broken
    return count, reasons


def _check_name(config: Config, name: str) -> None:
    """Raise a ValueError with near names unless a data set may have this name."""
    stored = name.partition(":")[0] in ("npz", "folder", "lists")
    if not stored and name not in TORCHVISION and name not in EMBEDDED:
        raise ValueError(f"panel.sets: {unknown_set(name, config.at(''), EMBEDDED)}")


def _panel_set(config: Config, name: str, views: Views) -> PanelData:
    dropped: dict[str, str] = {}
    content = plain(config)
    _check_name(config, name)
    if name in EMBEDDED:
        if config.backbone.name != "tiny-clip":
            raise ValueError(f"panel.sets: {name!r} holds inputs of tiny-clip alone")
        parts: Any = {split: concept(name, split) for split in SPLITS}
        identity, inputs, classes = embedded_hash(name), parts, parts["train"].classes
    else:
        data, dropped = load_set(name, config.at(""), SetOptions.of_panel(config.stream))
        parts = {split: getattr(data, split) for split in SPLITS}
        identity, classes = data.sha256, data.classes
        inputs = None
    images: dict[Split, Any] = {}
    sources: dict[Split, Any] = {}
    labels: dict[Split, set[int]] = {}
    for split in SPLITS:
        limit = config.panel.train if split == "train" else config.panel.test
        rows = thinned(parts[split].targets, limit)
        sources[split] = Subset(parts[split], rows)
        if inputs is None:  # stored rows are those of the chosen images alone
            part = parts[split]
            chosen = Labelled(
                part.source,
                tuple(part.rows[r] for r in rows),
                tuple(part.targets[r] for r in rows),
            )
            images[split] = _Viewed(chosen, views.evaluation)
        else:
            images[split] = Subset(inputs[split], rows)
        labels[split] = {int(parts[split].targets[r]) for r in rows}
    untrained = sorted((labels["validation"] | labels["test"]) - labels["train"])
    if untrained or len(labels["train"]) < 2:
        raise ValueError(
            f"panel.sets: {name} has no training image of its classes {untrained[:5]}, or one "
            f"class alone: raise panel.train={config.panel.train}"
        )
    counts = {split: len(images[split]) for split in SPLITS}
    return PanelData(
        PanelSet(panel_word(shown_names(config)[name]), **images),
        counts,
        list_hash([f"{identity} {list(counts.values())}"]),
        {scrubbed(place, content): scrubbed(reason, content) for place, reason in dropped.items()},
        tuple(classes),
        sources,
        name,
    )
