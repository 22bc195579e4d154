"""What decides a run, typed and checked; see ``python -m benchmarks run --help``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from avalanche_proxyfda.models.text_head import TEMPLATES
from benchmarks.methods.plugins import arguments_of, make_plugins
from benchmarks.methods.registry import METHODS, check_method
from benchmarks.record import label_of, run_id_of
from benchmarks.streams.concepts import SEQUENCE

_STRICT = ConfigDict(extra="forbid")
Colour = tuple[float, float, float]


def _about(text: str, **limits: Any) -> Any:
    return Field(description=text, **limits)


@dataclass(frozen=True, config=_STRICT)
class Concepts:
    """The embedded stream: small data sets, each with labels of its own."""

    kind: Literal["concepts"] = "concepts"
    sets: Annotated[tuple[str, ...], _about("data sets to learn, in order")] = SEQUENCE


@dataclass(frozen=True, config=_STRICT)
class Sequence:
    """Data sets one after the other."""

    kind: Literal["sequence"]
    sets: Annotated[
        tuple[str, ...], _about("torchvision's names, npz:FILE or folder:FOLDER, in order")
    ]
    shared_labels: Annotated[bool, _about("one label space for all: learning by domain")] = False
    validation_share: Annotated[
        float, _about("of train, where none is published", gt=0, le=0.5)
    ] = 0.1
    validation_seed: Annotated[int, _about("of that split")] = 0
    download: Annotated[bool, _about("let torchvision fetch what is missing")] = False
    on_corrupt: Annotated[
        Literal["raise", "drop"], _about("stop at a broken image, or leave it out and note it")
    ] = "raise"


@dataclass(frozen=True, config=_STRICT)
class ImageNetR:
    """Split ImageNet-R, a group of classes at a time."""

    kind: Literal["imagenet-r"]
    root: Annotated[str, _about("archive or folder")] = "imagenet-r"
    num_experiences: Annotated[int, _about("a divisor of 200", ge=1)] = 10
    split: Annotated[
        Literal["hash80", "coda", "presplit"] | None,
        _about("null: presplit where there are train/ and test/, hash80 else"),
    ] = None
    lists: Annotated[tuple[str, str] | None, _about("CODA-Prompt's YAML files")] = None
    order: Annotated[
        str | tuple[int, ...], _about("pilot-SEED, coda-RUN, identity, or all class ids")
    ] = "pilot-1993"
    validation_share: Annotated[
        float, _about("of each class's training images, held out to choose by", ge=0, le=0.5)
    ] = 0.1
    on_corrupt: Annotated[
        Literal["raise", "drop"], _about("stop at a broken image, or leave it out and note it")
    ] = "raise"


@dataclass(frozen=True, config=_STRICT)
class Backbone:
    """The pre-trained image tower."""

    name: Annotated[str, _about("open_clip:ARCHITECTURE/TAG, timm:MODEL or tiny-clip")] = (
        "tiny-clip"
    )
    weights: Annotated[str | None, _about("a local file instead of the hub's, or random")] = None
    image_size: Annotated[int | None, _about("pixels; null: the model's", gt=0)] = None
    mean: Annotated[Colour | None, _about("of the channels; null: the model's")] = None
    std: Annotated[Colour | None, _about("of the channels; null: the model's")] = None
    options: Annotated[dict[str, Any], _about("more arguments of the library's create_model")] = (
        Field(default_factory=dict)
    )


@dataclass(frozen=True, config=_STRICT)
class Head:
    """What makes logits of embeddings."""

    kind: Annotated[
        Literal["probe", "random", "zero-shot"],
        _about("linear, fitted as a probe before training; linear; or the texts of the classes"),
    ] = "probe"
    l2: Annotated[float | None, _about("of the probe; null: chosen on a fifth", gt=0)] = None
    templates: Annotated[tuple[str, ...], _about("prompts of the zero-shot head")] = TEMPLATES


@dataclass(frozen=True, config=_STRICT)
class Panel:
    """Data sets that are probed before and after, and never tuned on."""

    sets: Annotated[tuple[str, ...], _about("as in a sequence, or names of concepts")] = ()
    train: Annotated[int | None, _about("most training images a set", gt=0)] = None
    test: Annotated[int | None, _about("most validation, and most test, images a set", gt=0)] = None
    each_experience: Annotated[
        bool, _about("measure after each experience, not before and after the stream alone")
    ] = False
    transport: Annotated[bool, _about("measure OTDD too, after the last experience; slow")] = False


@dataclass(frozen=True, config=_STRICT)
class Train:
    """How every method is trained: AdamW, warm-up, cosine decay."""

    lr: Annotated[float, _about("peak rate of the tower; 0 freezes it", ge=0)] = 1e-5
    head_lr: Annotated[float | None, _about("peak rate of the head; null: the tower's", gt=0)] = (
        None
    )
    weight_decay: Annotated[float, _about("AdamW's", ge=0)] = 0.1
    epochs: Annotated[
        Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], ...],
        _about("of each experience, or one number an experience"),
    ] = 1
    batch: Annotated[int, _about("samples a forward", ge=2)] = 64
    eval_batch: Annotated[int, _about("samples a step of evaluation", ge=1)] = 64
    batches: Annotated[
        Literal["balanced", "shuffled"],
        _about("class-balanced ones of related classes for every method, or shuffled images"),
    ] = "balanced"
    classes_per_batch: Annotated[int, _about("of balanced batches, at most", ge=2)] = 16
    samples_per_class: Annotated[
        int | None, _about("of balanced batches; null: as many as fill the batch", ge=1)
    ] = None
    workers: Annotated[
        int, _about("processes that load images; random views differ with their number", ge=0)
    ] = 0
    warm_up: Annotated[float, _about("share of an experience's steps", ge=0, lt=1)] = 0.1
    clip: Annotated[float, _about("largest norm of the gradient", gt=0)] = 1.0
    batch_norm: Annotated[
        Literal["update", "frozen"],
        _about("of the tower: follow the stream's statistics, or keep those of pre-training"),
    ] = "update"
    precision: Annotated[
        Literal["float32", "bf16", "fp16"],
        _about("of forwards, by autocast; weights, losses and the panel stay float32"),
    ] = "float32"
    accumulate: Annotated[
        int, _about("batches an optimizer step; each has a neighbour graph of its own", ge=1)
    ] = 1
    channels_last: Annotated[bool, _about("memory layout; faster for CNNs on a CPU")] = False
    augment: Annotated[
        Literal["none", "crop", "flip-crop", "library"],
        _about("crop: 90 % and more of the image; flip-crop: 8 % and more, mirrored or not"),
    ] = "none"


@dataclass(frozen=True, config=_STRICT)
class Where:
    """What is not part of a run's identity: where data are, what it runs on, what it tells."""

    data: Annotated[str, _about("where data sets and weights are looked for")] = "data"
    url: Annotated[
        str | None, _about("of ImageNet-R's archive: fetched to stream.root if that is not there")
    ] = None
    sha256: Annotated[str | None, _about("of that archive; this or md5 is needed with url")] = None
    md5: Annotated[str | None, _about("of that archive")] = None
    device: Annotated[str, _about("auto, cpu, cuda, cuda:1 …")] = "auto"
    loggers: Annotated[
        tuple[Literal["text", "csv", "tensorboard", "wandb"], ...],
        _about("Avalanche's, into a folder beside the record"),
    ] = ()
    checkpoint_minutes: Annotated[
        float | None, _about("between checkpoints in training; null: none by the clock", gt=0)
    ] = 10.0
    checkpoint_steps: Annotated[
        int | None, _about("between checkpoints in training; null: none by steps", ge=1)
    ] = None
    keep_weights: Annotated[
        bool, _about("write the tuned model beside the record, as safetensors")
    ] = False
    teacher_cache: Annotated[
        Literal["auto", "off", "exact"],
        _about(
            "auto keeps the teacher's values where views come again; off gives the same bits again"
        ),
    ] = "off"
    cache_dir: Annotated[
        str | None, _about("keep them in a file here, for later runs with the same teacher")
    ] = None


@dataclass(frozen=True, config=_STRICT)
class Config:
    """One run. On a CPU the same configuration gives the same numbers again."""

    method: Annotated[str, _about(f"of {', '.join(METHODS)}")] = "finetune"
    strength: Annotated[float | None, _about("λ; mu of DiGraP, alpha of WiSE-FT")] = None
    options: Annotated[dict[str, Any], _about("further arguments of the method's plugin")] = Field(
        default_factory=dict
    )
    reference: Annotated[
        Literal["previous", "initial"], _about("the teacher's, or the anchor's")
    ] = "previous"
    seed: Annotated[int, _about("of heads and batches", ge=0)] = 0
    stream: Annotated[Concepts | Sequence | ImageNetR, Field(discriminator="kind")] = Field(
        default_factory=Concepts
    )
    backbone: Backbone = Field(default_factory=Backbone)
    head: Head = Field(default_factory=Head)
    train: Train = Field(default_factory=Train)
    panel: Panel = Field(default_factory=Panel)
    where: Where = Field(default_factory=Where)

    def __post_init__(self) -> None:
        known = METHODS[check_method(self.method)]
        if (known.knob is None) != (self.strength is None):
            raise ValueError(
                f"strength={self.strength}: {self.method} "
                + (f"needs one ({known.knob})" if known.knob else "has none")
            )
        if self.method == "lp-ft" and self.head.kind != "probe":
            raise ValueError(f"head.kind={self.head.kind!r}: lp-ft begins with a probe")
        # refuses bad strengths and options here, not in the middle of a run
        self.make_plugins()
        sets = getattr(self.stream, "sets", ())
        if isinstance(self.stream, (Concepts, Sequence)) and not sets:
            raise ValueError("stream.sets needs at least one data set")
        both = set(sets) & set(self.panel.sets)
        if both:
            raise ValueError(f"{sorted(both)} cannot be learnt and be on the panel at once")

    def make_plugins(self) -> list[Any]:
        """The plugin of the method, in a list, which is empty for plain fine-tuning."""
        takes = arguments_of(self.method)
        options, train = dict(self.options), self.train
        if "hard_class_batches" in takes and train.batches == "shuffled":
            options.setdefault("hard_class_batches", False)  # else batches of the plugin's own
        elif "hard_class_batches" in takes:  # all methods have the same batches: adopted here
            for name in ("classes_per_batch", "samples_per_class"):
                if name in options:
                    raise ValueError(
                        f"options.{name}: every method has the same batches; set train.{name}"
                    )
                options[name] = getattr(train, name)
        if "teacher_cache" in takes:
            options.setdefault("teacher_cache", self.where.teacher_cache)
            options.setdefault("cache_dir", self.where.cache_dir)
        return make_plugins(self.method, self.strength, self.reference, self.seed, options)

    @property
    def identity(self) -> str:
        """SHA-256 of the configuration but for ``where``, as canonical JSON."""
        return run_id_of(plain(self))

    @property
    def label(self) -> str:
        """A file name for the run."""
        return label_of(plain(self), self.identity)

    @property
    def about(self) -> str:
        """The method and its strength, to read."""
        knob = METHODS[self.method].knob
        return self.method if knob is None else f"{self.method}, {knob} = {self.strength:g}"

    def at(self, name: str) -> Path:
        """A path of the configuration: itself, or inside ``where.data``."""
        return Path(self.where.data).expanduser() / Path(name).expanduser()


_ADAPTER: TypeAdapter[Config] = TypeAdapter(Config)


def plain(config: Config) -> dict[str, Any]:
    """The configuration as JSON's types."""
    content: dict[str, Any] = _ADAPTER.dump_python(config, mode="json")
    return content


def read(content: dict[str, Any]) -> Config:
    """The configuration that :func:`plain` was made of; raises pydantic's ValidationError."""
    return _ADAPTER.validate_python(content)


def changed(config: Config, **changes: Any) -> Config:
    """``config`` with other values of its own fields.

    Raises:
        ValueError: in one line, for values that do not fit.
    """
    try:
        return replace(config, **changes)
    except ValidationError as error:
        raise ValueError(complaint(error)) from None


def complaint(error: ValidationError) -> str:
    """The first complaints of a validation in one line."""
    parts = []
    for found in error.errors()[:3]:
        kinds = {"concepts", "sequence", "imagenet-r"}  # pydantic names the tag as well
        place = ".".join(str(x) for x in found["loc"] if x not in kinds)
        what = found["msg"].removeprefix("Value error, ")
        given = found["input"]
        simple = isinstance(given, (str, int, float, bool)) or given is None
        parts.append(
            f"{place}={given!r}: {what}" if place and simple else f"{place} {what}".strip()
        )
    return "; ".join(parts)
