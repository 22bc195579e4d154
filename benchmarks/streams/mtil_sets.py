"""The data sets of MTIL and X-TAIL as a run loads and scans them."""

from __future__ import annotations

from typing import Any

from avalanche_proxyfda.streams.files.broken import broken, without_broken
from avalanche_proxyfda.streams.files.labelled import DataSet
from avalanche_proxyfda.streams.mtil import mtil_set
from benchmarks.config import Config
from benchmarks.streams.sets import SetOptions, few_of, warn_dropped


def load_mtil(config: Config) -> tuple[list[tuple[DataSet, dict[str, str]]], list[dict[str, str]]]:
    """Load the data sets of ``config.stream`` in the order of learning, with its shots.

    Returns:
        Each data set with the reason for each dropped image, by place; and name and hash of the
        split file of each.

    Raises:
        FileNotFoundError, ValueError: see :func:`avalanche_proxyfda.streams.mtil.mtil_set`.
    """
    loaded, about = [], []
    for name in _stream(config).learnt:
        data, file = _load(config, name)
        reasons: dict[str, str] = {}
        if _stream(config).on_corrupt == "drop":
            data, reasons = without_broken(data)
            warn_dropped(name, [place.removeprefix(f"{name} ") for place in reasons])
        data = few_of(data, config.at(""), SetOptions.of(_stream(config)))
        loaded.append((data, reasons))
        about.append(file)
    return loaded, about


def scan_mtil(config: Config) -> tuple[int, dict[str, str]]:
    """Read every image of the data sets once; see :func:`benchmarks.streams.sets.scan_set`."""
    count, reasons = 0, {}
    for name in _stream(config).learnt:
        data, _ = _load(config, name)
        for split, places in broken(data).items():
            part = getattr(data, split)
            count += len(part)
            names = part.placed()
            reasons |= {f"{name} {split} {names[k][0]}": reason for k, reason in places.items()}
    return count, reasons


def _stream(config: Config) -> Any:
    return config.stream


def _load(config: Config, name: str) -> tuple[DataSet, dict[str, str]]:
    options = _stream(config)
    return mtil_set(
        name,
        config.at(""),
        options.splits,
        options.split_files,
        options.validation_share,
        options.validation_seed,
        options.download,
    )
