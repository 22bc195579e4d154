"""The record of one run, typed: see ``docs/records.md``."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from benchmarks.results.identity import is_run_id, label_of
from benchmarks.results.matrix import checked_matrix

SCHEMA_VERSION: Final = 1
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
BySet = dict[str, Share]
_NEEDED = ("method", "strength", "seed", "stream", "backbone", "panel", "head", "train")


@dataclass(frozen=True, config=_STRICT)
class Stream:
    """The stream: its images and their order."""

    name: str
    experiences: tuple[str, ...]
    split_sha256: Sha256
    train: tuple[Count, ...]
    validation: tuple[Count, ...] | None
    test: tuple[Count, ...]
    weighted_by: Annotated[
        Literal["image", "experience"], Field(description="how accuracies are averaged")
    ]
    summary: Annotated[
        dict[str, Any],
        Field(description="the stream's description of itself, with the class order"),
    ]


@dataclass(frozen=True, config=_STRICT)
class PanelSet:
    """A data set for probes; no method is tuned on it."""

    sha256: Sha256
    train: Count
    validation: Count
    test: Count
    dropped: dict[str, str]
    no_zero_shot: Annotated[
        str | None,
        Field(description="reason why this set has no zero-shot accuracy, while others have"),
    ] = None


@dataclass(frozen=True, config=_STRICT)
class Code:
    """The code of the run."""

    commit: str | None
    changed: Annotated[
        bool | None, Field(description="true if the checkout had uncommitted changes")
    ]
    method_version: Annotated[
        int | None,
        Field(
            ge=1,
            description="version of the method's numbers; null in older records, which have "
            "version 1",
        ),
    ] = None
    companion_versions: Annotated[
        dict[str, int],
        Field(description="versions of the methods whose terms were added, by method"),
    ] = Field(default_factory=dict)
    method_sha256: Annotated[
        Sha256 | None, Field(description="hash of the method's sources, if method_version is null")
    ] = None

    @property
    def version(self) -> int:
        """Version of the method's numbers; 1 in records that are older than versions."""
        return self.method_version or 1


@dataclass(frozen=True, config=_STRICT)
class Cpu:
    """The processor of the run, and what makes torch choose its kernels there."""

    vendor: str | None
    family: Count | None
    model: Count | None
    stepping: Count | None
    instructions: Annotated[
        tuple[str, ...], Field(description="instruction sets that libraries have kernels for")
    ]
    torch_capability: Annotated[str, Field(description="instruction set of torch's own kernels")]
    blas: Annotated[str, Field(description="library of torch's matrix products")]
    onednn: Annotated[bool, Field(description="true if torch has oneDNN")]
    limits: Annotated[
        dict[str, str],
        Field(description="environment variables that change the choice of kernels, by name"),
    ]

    @property
    def known(self) -> bool:
        """True if vendor, family, model and stepping are known."""
        return None not in (self.vendor, self.family, self.model, self.stepping)


@dataclass(frozen=True, config=_STRICT)
class Machine:
    """The machine of the run."""

    processor: str
    cores: Count
    threads: Count
    jobs: Annotated[Count, Field(description="number of runs at a time on the machine")]
    device: str
    gpus: Count
    dtype: str
    deterministic: dict[str, bool]
    ranks: Annotated[Count, Field(description="number of processes that shared the run")] = 1
    cpu: Annotated[
        Cpu | None, Field(description="the processor in full; absent in older records")
    ] = None


@dataclass(frozen=True, config=_STRICT)
class How:
    """Everything that is needed to repeat the run."""

    config: dict[str, Any]
    command: tuple[str, ...]
    code: Code
    versions: dict[str, str]
    machine: Machine


@dataclass(frozen=True, config=_STRICT)
class Selection:
    """How the setting was chosen."""

    data: Annotated[
        Literal["validation", "given"],
        Field(description="validation: chosen among settings there; given: as in the recipe"),
    ] = "given"
    settings: Annotated[
        Count, Field(description="number of settings of the method that were tried")
    ] = 1


@dataclass(frozen=True, config=_STRICT)
class Moment:
    """Measurements of the panel after ``after`` experiences; 0 is before the stream."""

    after: Count
    linear_probe: dict[Literal["validation", "test"], BySet]
    zero_shot: dict[Literal["validation", "test"], BySet] | None
    drift: Annotated[
        dict[str, dict[str, float | None]],
        Field(description="drift of test features since 0, by set"),
    ]

    def __post_init__(self) -> None:
        for name in ("linear_probe", "zero_shot"):
            splits = getattr(self, name)
            if splits is None:
                continue
            sets = {tuple(sorted(by_set)) for by_set in splits.values()}
            if set(splits) != {"validation", "test"} or len(sets) > 1:
                raise ValueError(f"{name} must have the same sets for validation and test")

    @property
    def sets(self) -> list[str]:
        """Names of the panel's data sets."""
        return sorted(self.linear_probe["test"])


@dataclass(frozen=True, config=_STRICT)
class Outcome:
    """Measurements of the run; ``benchmarks.results.scores`` derives all scalars from them."""

    accuracy: Annotated[
        tuple[tuple[Share | None, ...], ...],
        Field(description="R[t][j]: test accuracy on experience j + 1 after t; T + 1 rows"),
    ]
    avalanche_forgetting: Annotated[float, Field(description="forgetting as Avalanche computes it")]
    validation_learnt: Annotated[
        tuple[Share, ...] | None, Field(description="accuracy by experience, right after it")
    ]
    validation_last: Annotated[tuple[Share, ...] | None, Field(description="the same at the end")]
    panel: tuple[Moment, ...]
    loss_terms: Annotated[
        tuple[dict[str, tuple[float | None, ...]], ...],
        Field(description="by experience and name, an entry an epoch"),
    ]

    def __post_init__(self) -> None:
        checked_matrix(self.accuracy)
        count = len(self.accuracy) - 1
        moments = [moment.after for moment in self.panel]
        rising = all(a < b for a, b in itertools.pairwise(moments))
        if moments and (moments[0] != 0 or moments[-1] != count or not rising):
            raise ValueError(f"panel: moments {moments} must rise from 0 to the end, {count}")
        if len({(tuple(m.sets), m.zero_shot is None) for m in self.panel}) > 1:
            raise ValueError("panel: its moments are of different data sets")
        for name in ("validation_learnt", "validation_last"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise ValueError(f"{name} has {len(values)} entries, for {count} experiences")
        if len(self.loss_terms) != count:
            raise ValueError(f"loss_terms has {len(self.loss_terms)} entries, for {count}")


@dataclass(frozen=True, config=_STRICT)
class ReferenceData:
    """Unlabelled images, and texts, beside the stream."""

    images: Count
    images_sha256: Sha256
    texts: Count | None = None
    texts_sha256: Sha256 | None = None


@dataclass(frozen=True, config=_STRICT)
class Cost:
    """Time, memory and counts of the run."""

    seconds: Seconds
    train_seconds: Seconds
    seconds_per_step: Annotated[
        Seconds, Field(description="median of training steps; no wait for a batch")
    ]
    steps: Count
    samples: Annotated[Count, Field(description="training images, counted in each epoch")]
    student_forwards: Count
    teacher_forwards: Count
    peak_rss_bytes: Annotated[Count, Field(description="peak of the process, data included")]
    peak_gpu_bytes: Count | None
    parameters_trained: Count
    parameters_stored: Annotated[Count, Field(description="parameters of the model and head")]
    cache_lookups: Annotated[
        Count | None, Field(description="samples looked up in the teacher's cache; null: none")
    ] = None
    cache_hits: Annotated[
        Count | None, Field(description="looked-up samples without a teacher forward")
    ] = None
    loader_seconds_per_step: Annotated[
        Seconds | None, Field(description="mean wait of the host for a batch; null: not measured")
    ] = None
    text_forwards: Annotated[
        Count | None,
        Field(description="forwards of a trained text tower in training; null: none is trained"),
    ] = None


@dataclass(frozen=True, config=_STRICT)
class Record:
    """One run; a failed run has a reason and no outcome."""

    schema_version: Literal[1]
    run_id: Sha256
    status: Literal["finished", "failed"]
    reason: str | None
    how: How
    selection: Selection
    stream: Stream | None
    panel: dict[str, PanelSet] | None
    initial_tower_sha256: Sha256 | None
    feature_source: str | None
    outcome: Outcome | None
    cost: Cost | None
    resumed_from: str | None
    artefacts: dict[str, Sha256]
    reference_data: Annotated[
        ReferenceData | None, Field(description="null: the method uses none")
    ] = None

    @property
    def method_versions(self) -> dict[str, int]:
        """Versions of the run's methods, by method."""
        code = self.how.code
        return {str(self.how.config["method"]): code.version, **code.companion_versions}

    def __post_init__(self) -> None:
        absent = [key for key in _NEEDED if key not in self.how.config]
        if absent:
            raise ValueError(f"how.config has no {', '.join(absent)}")
        strength, seed = self.how.config["strength"], self.how.config["seed"]
        number = strength == "auto" or isinstance(strength, (int, float, type(None)))
        if not isinstance(seed, int) or not number:
            raise ValueError(f"how.config has seed={seed!r} and strength={strength!r}")
        if not is_run_id(self.run_id, self.how.config):
            raise ValueError(f"run_id={self.run_id[:8]}… is not that of the configuration")
        whole = (self.stream, self.panel, self.initial_tower_sha256, self.outcome, self.cost)
        if (self.status == "finished") != all(part is not None for part in whole):
            raise ValueError(f"status={self.status!r}: a finished run has all parts, a failed none")
        if (self.status == "failed") != (self.reason is not None):
            raise ValueError(f"status={self.status!r} and reason={self.reason!r}")
        if self.stream is not None and self.outcome is not None:
            count = len(self.outcome.accuracy) - 1
            stream, validation = self.stream, self.stream.validation or self.stream.test
            parts = (stream.experiences, stream.train, stream.test, validation)
            if {len(part) for part in parts} != {count}:
                raise ValueError(f"the matrix is of {count} experiences, the stream is not")
            if 0 in (*self.stream.test, *(self.stream.validation or ())):
                raise ValueError("stream: an experience has no images to measure")
            if (self.stream.validation is None) != (self.outcome.validation_last is None):
                raise ValueError("stream and outcome must both have validation data, or neither")
            for moment in self.outcome.panel:
                if moment.sets != sorted(self.panel or {}):
                    raise ValueError(f"panel: {moment.sets} were measured, not the record's sets")

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        return self.how.config

    @property
    def label(self) -> str:
        """A file name for the run."""
        return label_of(self.config, self.run_id)

    def reproducible(self) -> dict[str, Any]:
        """Return the parts that the same configuration reproduces, without time and place."""
        content = plain(self)
        for name in ("cost", "how", "selection", "artefacts", "resumed_from"):
            del content[name]
        return content


ADAPTER: TypeAdapter[Record] = TypeAdapter(Record)


def plain(record: Record) -> dict[str, Any]:
    """Return the record as JSON's types, without the parts that an older record lacks."""
    content: dict[str, Any] = ADAPTER.dump_python(record, mode="json")
    code, machine = content["how"]["code"], content["how"]["machine"]
    if not code["companion_versions"]:
        del code["companion_versions"]
    if machine["cpu"] is None:
        del machine["cpu"]
    if content["reference_data"] is None:
        del content["reference_data"]
    cost = content["cost"]
    for key in ("loader_seconds_per_step", "text_forwards"):
        if cost is not None and cost[key] is None:
            del cost[key]
    return content


def finite_or_none(value: float) -> float | None:
    """Return ``value``; None for NaN and infinities, which JSON lacks."""
    return float(value) if math.isfinite(value) else None
