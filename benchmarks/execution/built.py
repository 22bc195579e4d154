"""Builds streams, models and data of planned jobs once for all jobs that share them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.config import Config, plain
from benchmarks.experiment.begin import data_of
from benchmarks.experiment.prepare import Prepared, prepare
from benchmarks.experiment.reference import describe_reference
from benchmarks.methods.plugins import uses_reference
from benchmarks.results.identity import canonical
from benchmarks.results.record import ReferenceData
from benchmarks.results.same_data import RunData
from benchmarks.streams.stream import Stream

_PARTS = ("stream", "backbone", "head", "train", "panel", "where")


@dataclass(frozen=True, eq=False)
class Built:
    """Parts of a run that jobs keep or are checked with.

    Attributes:
        stream: experiences to learn.
        data: the data and the weights that the run begins with.
    """

    stream: Stream
    data: RunData


class Builder:
    """Builds the parts of runs, and keeps what later runs share.

    One model at a time stays in memory.
    """

    def __init__(self) -> None:
        self._built: dict[bytes, Built] = {}
        self._references: dict[bytes, ReferenceData] = {}
        self._errors: dict[bytes, Exception] = {}
        self._latest: tuple[bytes, Prepared] | None = None

    def build(self, config: Config) -> Built:
        """Build everything that a run needs, so that mistakes show, and return its parts.

        A second call with parts that could not be built raises the same error at once.

        Args:
            config: configuration of the run.

        Raises:
            FileNotFoundError, ImportError, ConnectionError, TypeError, ValueError: as
                :func:`benchmarks.experiment.prepare.prepare`.
        """
        key = _key(config)
        if key in self._errors:
            raise self._errors[key]
        try:
            return self._parts(config)
        except Exception as error:
            self._errors[key] = error
            raise

    def _parts(self, config: Config) -> Built:
        shared = _shared_key(config)
        if shared not in self._built:
            self._prepare(config)
        built = self._built[shared]
        if not uses_reference(config):
            return built
        reference = self._reference(config)
        return Built(built.stream, replace(built.data, reference=reference))

    def _reference(self, config: Config) -> ReferenceData:
        """Return the identity of the reference data, with the latest model where it fits."""
        key, shared = _key(config), _shared_key(config)
        if key not in self._references:
            if self._latest is None or self._latest[0] != shared:
                self._prepare(config)
            else:
                _, last = self._latest
                parts = (last.backbone, last.stream, last.model)
                self._references[key] = describe_reference(config, *parts)
        return self._references[key]

    def _prepare(self, config: Config) -> None:
        self._latest = None  # frees its model
        prepared = prepare(config, only_check=True)
        shared, data = _shared_key(config), data_of(config, prepared)
        self._built[shared] = Built(prepared.stream, data)
        if data.reference is not None:
            self._references[_key(config)] = data.reference
            self._built[shared] = Built(prepared.stream, replace(data, reference=None))
        self._latest = shared, prepared


def _shared_key(config: Config) -> bytes:
    """Return the key of all runs that share everything but reference data."""
    content = plain(config)
    return canonical([content[part] for part in _PARTS])


def _key(config: Config) -> bytes:
    """Return the key of all runs that share everything."""
    reference = plain(config)["reference_data"] if uses_reference(config) else None
    return canonical([_shared_key(config).decode(), reference])
