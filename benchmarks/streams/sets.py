"""The data sets of a run, loaded with the options of its stream."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

from avalanche_proxyfda._files import expanded
from avalanche_proxyfda.streams.files.broken import broken, without_broken
from avalanche_proxyfda.streams.files.datasets import load
from avalanche_proxyfda.streams.files.folder_parts import listed
from avalanche_proxyfda.streams.files.labelled import DataSet
from avalanche_proxyfda.streams.files.left_out import LeftOutWarning
from avalanche_proxyfda.streams.files.shots import drawn_shots, listed_shots, read_shot_list
from benchmarks.config import Config, plain
from benchmarks.results.places import hidden_names, kind_and_place


@dataclass(frozen=True)
class SetOptions:
    """Options for loading a data set.

    Attributes:
        validation_share: share of each class's training images that become validation images
            if no validation split is published; 0 for no validation split.
        validation_seed: seed of that choice.
        shots: largest number of training images of a class; None for all.
        shots_seed: seed of their choice.
        shots_list: JSON file of the training images, by set and class; None without a list.
        download: True lets torchvision download missing files.
        on_corrupt: ``"drop"`` leaves broken images out; ``"raise"`` keeps them, and reading
            them fails.
    """

    validation_share: float = 0.1
    validation_seed: int = 0
    shots: int | None = None
    shots_seed: int = 0
    shots_list: str | None = None
    download: bool = False
    on_corrupt: str = "raise"

    @classmethod
    def of(cls, stream: Any) -> SetOptions:
        """Options that the configuration of a stream sets; defaults for the others."""
        names = [field.name for field in fields(cls) if hasattr(stream, field.name)]
        return cls(**{name: getattr(stream, name) for name in names})

    @classmethod
    def of_panel(cls, stream: Any) -> SetOptions:
        """Options of the stream for the panel, whose sets have validation and all train images."""
        options = cls.of(stream)
        share = options.validation_share or cls.validation_share
        return replace(options, validation_share=share, shots=None, shots_list=None)


def shown_names(config: Config) -> dict[str, str]:
    """Return the names of the data sets as records and pages hold them, by name in ``config``."""
    hidden = hidden_names(plain(config))
    names = (*getattr(config.stream, "sets", ()), *config.panel.sets)
    return {name: hidden.get(name, name) for name in names}


def load_set(
    name: str, root: Path, options: SetOptions = SetOptions()
) -> tuple[DataSet, dict[str, str]]:
    """Load a data set, without its broken images if ``options.on_corrupt`` is ``"drop"``.

    The validation images are split off first, and the shots are chosen of the rest.

    Args:
        name: see :func:`avalanche_proxyfda.streams.files.datasets.load`.
        root: folder of the data sets.
        options: how to split and read the data set.

    Returns:
        The data set, and the reason for each dropped image, by place.

    Raises:
        FileNotFoundError, ValueError: see :func:`avalanche_proxyfda.streams.files.datasets.load`;
            also for a list of shots that is missing or does not fit.
    """
    data, reasons = _load(name, root, options), {}
    if options.on_corrupt == "drop":
        data, reasons = without_broken(data)
        warn_dropped(name, [place.removeprefix(f"{name} ") for place in reasons])
    return few_of(data, root, options), reasons


def few_of(data: DataSet, root: Path, options: SetOptions) -> DataSet:
    """Return the data set with the training images that ``options`` choose.

    The last part of the set's name chooses the random stream, so no folder of a machine does.

    Args:
        data: data set whose validation images are split off.
        root: folder of the data sets, from which the path of a list starts.
        options: the choice.

    Raises:
        ValueError: if a list lacks the data set, or does not fit it.
        FileNotFoundError: if there is no list.
    """
    word = PurePosixPath(kind_and_place(data.name)[1]).name
    if options.shots is not None:
        return drawn_shots(data, options.shots, options.shots_seed, word)
    if options.shots_list is None:
        return data
    lists = read_shot_list(root / expanded(options.shots_list))
    name = next((name for name in (data.name, word) if name in lists), None)
    if name is None:
        raise ValueError(
            f"stream.shots_list={options.shots_list!r} has no {word!r}: it lists {listed(lists)}"
        )
    return listed_shots(data, lists[name])


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
    return load(name, root, options.validation_share, options.validation_seed, options.download)
