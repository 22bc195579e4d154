"""Reads the configuration and the data sets of a record's run without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from avalanche_proxyfda._names import nearest
from benchmarks.config import Config, changed, complaint, plain, read
from benchmarks.config.known_keys import KEYS, check_keys
from benchmarks.config.overrides import with_overrides
from benchmarks.reproduce.here import Here
from benchmarks.reproduce.set_names import named_set
from benchmarks.results.beside import is_beside
from benchmarks.results.files import RefusedRecordError, read_record
from benchmarks.results.record import Record

_MOST_READ = 20
"""Files that the search for an example reads."""
RECORDED = Here()
"""The places that a record holds, and no others."""


def finished_record(path: Path, option: str = "") -> Record:
    """Read the record of a finished run.

    Args:
        path: file of the record.
        option: option of the command that names the file; it begins the messages about a path
            without a record.

    Raises:
        ValueError: if the path is a folder, the record is refused, or the run failed; the message
            names the path.
        OSError: if the file cannot be read; the message names the path and the remedy.
    """
    given = f"{option} {path}".lstrip()
    if path.is_dir():
        raise ValueError(f"{given} is a folder: give one record, such as {_example(path)}")
    try:
        record = read_record(path)
    except RefusedRecordError as error:
        raise ValueError(f"{path}: {error}") from None
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{given} is not there: give one record, such as {_example(path.parent, path.name)}"
        ) from error
    except OSError as error:
        raise type(error)(
            f"{given} cannot be read ({error.strerror}): give the record of a finished run"
        ) from error
    if record.status != "finished":
        raise ValueError(f"{path}: the run failed ({record.reason}): there is no tuned model")
    return record


def _example(folder: Path, name: str = "") -> str:
    """Return the path of a record in ``folder`` or one folder below, the nearest to ``name``.

    Without one it says which commands write records.
    """
    files = [*sorted(folder.glob("*.json")), *sorted(folder.glob("*/*.json"))]
    close = [folder / word for word in nearest(name, [file.name for file in files], 1)]
    for file in [*close, *files][:_MOST_READ]:
        try:
            if not is_beside(file) and read_record(file).status == "finished":
                return str(file)
        except (RefusedRecordError, OSError):
            continue
    return "runs/demo/NAME.json; python -m benchmarks demo, run or sweep makes some"


def config_in(record: Record, here: Here = RECORDED) -> Config:
    """Return the configuration that the record holds, with the places of this machine.

    Plugin and device are not looked at; :func:`benchmarks.reproduce.from_record.config_of` looks
    at both.

    Raises:
        ValueError: if this version does not accept the configuration, or a place is not known.
    """
    content = here.config(record)
    try:
        return read(content)
    except ValidationError as error:
        raise ValueError(f"the record's configuration: {complaint(error)}") from None


def for_repetition(config: Config, record: Record, keep_weights: bool = True) -> Config:
    """Return the configuration that logs nothing.

    Args:
        config: configuration that the record holds, see :func:`config_in`.
        record: record of the run.
        keep_weights: True saves the weights, False needs the numbers alone.
    """
    where = replace(config.where, loggers=(), keep_weights=keep_weights)
    if "teacher_cache" not in record.config.get("where", {}):  # the run had no cache
        where = replace(where, teacher_cache="off")
    return changed(config, where=where)


def with_set(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Return the configuration with the keys of ``--set``.

    Raises:
        ValueError: for a key that does not exist, the near one named, or a bad value.
    """
    if not overrides:
        return config
    content = with_overrides(plain(config), overrides)
    check_keys(content, KEYS)
    try:
        return read(content)
    except ValidationError as error:
        raise ValueError(f"--set: {complaint(error)}") from None


def chosen_set(record: Record, asked: str | None) -> str:
    """Choose a data set of the run.

    Args:
        record: record of the run.
        asked: name of the data set, see :func:`named_set`. None chooses the set of the panel
            that lost the most neighbours; without a panel, the experience that lost the most
            accuracy.

    Raises:
        ValueError: if the run has no such data set, or several could be meant.
    """
    assert record.panel is not None
    assert record.stream is not None
    assert record.outcome is not None
    names = dict.fromkeys((*record.panel, *record.stream.experiences))
    if asked is not None:
        return named_set(asked, list(names))
    drift = record.outcome.panel[-1].drift if record.outcome.panel else {}
    overlaps = {name: values.get("neighbors") for name, values in drift.items()}
    measured = {name: value for name, value in overlaps.items() if value is not None}
    if not measured:
        return _most_forgotten(record)
    return min(measured, key=lambda name: measured[name])


def _most_forgotten(record: Record) -> str:
    """The experience that lost the most accuracy after it was learnt; of a tie the first."""
    assert record.stream is not None
    assert record.outcome is not None
    matrix, names = record.outcome.accuracy, record.stream.experiences

    def lost(place: int) -> float:
        learnt, last = matrix[place + 1][place], matrix[-1][place]
        return 0.0 if learnt is None or last is None else learnt - last

    return names[max(range(len(names)), key=lambda place: (lost(place), -place))]
