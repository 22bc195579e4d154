"""The data sets of a run, loaded with the options of its stream."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from avalanche_proxyfda.streams.files.broken import broken, without_broken
from avalanche_proxyfda.streams.files.datasets import load
from avalanche_proxyfda.streams.files.folder_parts import listed
from avalanche_proxyfda.streams.files.labelled import DataSet
from avalanche_proxyfda.streams.files.left_out import LeftOutWarning
from benchmarks.config import Config, plain
from benchmarks.results.places import hidden_names


@dataclass(frozen=True)
class SetOptions:
    """Options for loading a data set.

    Attributes:
        validation_share: share of each class's training images that become validation images
            if no validation split is published; 0 stands for 0.1.
        validation_seed: seed of that choice.
        download: True lets torchvision download missing files.
        on_corrupt: ``"drop"`` leaves broken images out; ``"raise"`` keeps them, and reading
            them fails.
    """

    validation_share: float = 0.1
    validation_seed: int = 0
    download: bool = False
    on_corrupt: str = "raise"

    @classmethod
    def of(cls, stream: Any) -> SetOptions:
        """Options that the configuration of a stream sets; defaults for the others.

        The panel of a run is loaded with the same options as the stream.
        """
        names = [field.name for field in fields(cls) if hasattr(stream, field.name)]
        return cls(**{name: getattr(stream, name) for name in names})


def shown_names(config: Config) -> dict[str, str]:
    """Return the names of the data sets as records and pages hold them, by name in ``config``."""
    hidden = hidden_names(plain(config))
    names = (*getattr(config.stream, "sets", ()), *config.panel.sets)
    return {name: hidden.get(name, name) for name in names}


def load_set(
    name: str, root: Path, options: SetOptions = SetOptions()
) -> tuple[DataSet, dict[str, str]]:
    """Load a data set, without its broken images if ``options.on_corrupt`` is ``"drop"``.

    Args:
        name: see :func:`avalanche_proxyfda.streams.files.datasets.load`.
        root: folder of the data sets.
        options: how to split and read the data set.

    Returns:
        The data set, and the reason for each dropped image, by place.

    Raises:
        FileNotFoundError, ValueError: see :func:`avalanche_proxyfda.streams.files.datasets.load`.
    """
    data = _load(name, root, options)
    if options.on_corrupt != "drop":
        return data, {}
    rest, reasons = without_broken(data)
    warn_dropped(name, [place.removeprefix(f"{name} ") for place in reasons])
    return rest, reasons


def warn_dropped(name: str, places: Sequence[str]) -> None:
    """Warn that broken images are left out; without places, do nothing.

    Args:
        name: name of the data set.
        places: places of the images in the data set.
    """
    if places:
        text = f"{name}: broken images are left out ({len(places)}): {listed(places)}"
        warnings.warn(text, LeftOutWarning, stacklevel=2)


def scan_set(name: str, root: Path, options: SetOptions) -> tuple[int, dict[str, str]]:
    """Read every image of a data set once.

    Returns:
        The number of images, and the reason for each broken image, by place.

    Raises:
        FileNotFoundError, ValueError: see :func:`avalanche_proxyfda.streams.files.datasets.load`.
    """
    data = _load(name, root, options)
    count, reasons = 0, {}
    for split, places in broken(data).items():
        part = getattr(data, split)
        count += len(part)
        names = part.placed()
        reasons |= {f"{name} {split} {names[k][0]}": reason for k, reason in places.items()}
    return count, reasons


def _load(name: str, root: Path, options: SetOptions) -> DataSet:
    share = options.validation_share or 0.1  # Split ImageNet-R may have no validation split
    return load(name, root, share, options.validation_seed, options.download)
