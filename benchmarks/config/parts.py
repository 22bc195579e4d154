"""The parts of a configuration that every stream has: backbone, head, panel, training, place."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from benchmarks.config.fields import STRICT, key

Colour = tuple[float, float, float]
TEMPLATES = ("a photo of a {}.", "an image of a {}.", "a drawing of a {}.", "a {}.")
"""The usual prompts of the zero-shot head, as :mod:`avalanche_proxyfda.models` has them."""


@dataclass(frozen=True, config=STRICT)
class Backbone:
    """The pre-trained image tower."""

    name: Annotated[str, key("open_clip:ARCHITECTURE/TAG, timm:MODEL or tiny-clip")] = "tiny-clip"
    weights: Annotated[str | None, key("a local file instead of the hub's, or random")] = None
    image_size: Annotated[int | None, key("pixels; null: the model's", gt=0)] = None
    mean: Annotated[Colour | None, key("mean of the channels; null: the model's")] = None
    std: Annotated[Colour | None, key("deviation of the channels; null: the model's")] = None
    options: Annotated[dict[str, Any], key("more arguments of the library's create_model")] = Field(
        default_factory=dict
    )


@dataclass(frozen=True, config=STRICT)
class Head:
    """The layer that makes logits of embeddings."""

    kind: Annotated[
        Literal["probe", "random", "zero-shot"],
        key("linear, fitted as a probe before training; linear; or the texts of the classes"),
    ] = "probe"
    l2: Annotated[
        float | None, key("penalty of the probe; null: chosen on a fifth of the images", gt=0)
    ] = None
    templates: Annotated[tuple[str, ...], key("prompts of the zero-shot head")] = TEMPLATES


@dataclass(frozen=True, config=STRICT)
class Panel:
    """Data sets that are probed before and after, and never tuned on."""

    sets: Annotated[tuple[str, ...], key("as in a sequence, or names of concepts")] = ()
    train: Annotated[int | None, key("most training images a set", gt=0)] = None
    test: Annotated[int | None, key("most validation, and most test, images a set", gt=0)] = None
    each_experience: Annotated[
        bool, key("measure after each experience, not before and after the stream alone")
    ] = False
    transport: Annotated[bool, key("measure OTDD too, after the last experience; slow")] = False


@dataclass(frozen=True, config=STRICT)
class Train:
    """How every method is trained: AdamW, warm-up, cosine decay."""

    lr: Annotated[float, key("peak rate of the tower; 0 freezes it", ge=0)] = 1e-5
    head_lr: Annotated[float | None, key("peak rate of the head; null: the tower's", gt=0)] = None
    weight_decay: Annotated[float, key("AdamW's", ge=0)] = 0.1
    epochs: Annotated[
        Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], ...],
        key("epochs of each experience, or one number an experience"),
    ] = 1
    batch: Annotated[int, key("samples a forward", ge=2)] = 64
    eval_batch: Annotated[int, key("samples a step of evaluation", ge=1)] = 64
    batches: Annotated[
        Literal["balanced", "shuffled"],
        key("class-balanced ones of related classes for every method, or shuffled images"),
    ] = "balanced"
    classes_per_batch: Annotated[int, key("most classes of a balanced batch", ge=2)] = 16
    samples_per_class: Annotated[
        int | None,
        key("samples a class in balanced batches; null: as many as fill the batch", ge=1),
    ] = None
    workers: Annotated[
        int, key("processes that load images; random views differ with their number", ge=0)
    ] = 0
    warm_up: Annotated[float, key("share of an experience's steps", ge=0, lt=1)] = 0.1
    clip: Annotated[float, key("largest norm of the gradient", gt=0)] = 1.0
    batch_norm: Annotated[
        Literal["update", "frozen"],
        key("the tower's: follow the stream's statistics, or keep those of pre-training"),
    ] = "update"
    precision: Annotated[
        Literal["float32", "bf16", "fp16"],
        key(
            "dtype of forwards, by autocast; weights, losses and the panel stay float32",
            since_records=False,
        ),
    ] = "float32"
    accumulate: Annotated[
        int,
        key(
            "batches an optimizer step; each has a neighbour graph of its own",
            since_records=False,
            ge=1,
        ),
    ] = 1
    channels_last: Annotated[bool, key("memory layout; faster for CNNs on a CPU")] = False
    augment: Annotated[
        Literal["none", "crop", "flip-crop", "library"],
        key("crop: 90 % and more of the image; flip-crop: 8 % and more, mirrored or not"),
    ] = "none"


@dataclass(frozen=True, config=STRICT)
class Where:
    """Keys outside a run's identity: where data are, which device, what is logged and kept."""

    data: Annotated[str, key("where data sets and weights are looked for")] = "data"
    url: Annotated[
        str | None,
        key("address of ImageNet-R's archive: fetched to stream.root if that is not there"),
    ] = None
    sha256: Annotated[str | None, key("hash of that archive; this or md5 is needed with url")] = (
        None
    )
    md5: Annotated[str | None, key("hash of that archive")] = None
    device: Annotated[str, key("auto, cpu, cuda, cuda:1 …")] = "auto"
    loggers: Annotated[
        tuple[Literal["text", "csv", "tensorboard", "wandb"], ...],
        key("Avalanche's, into a folder beside the record"),
    ] = ()
    checkpoint_minutes: Annotated[
        float | None, key("between checkpoints in training; null: none by the clock", gt=0)
    ] = 10.0
    checkpoint_steps: Annotated[
        int | None, key("between checkpoints in training; null: none by steps", ge=1)
    ] = None
    keep_weights: Annotated[
        bool, key("write the tuned model beside the record, as safetensors")
    ] = False
    teacher_cache: Annotated[
        Literal["auto", "off", "exact"],
        key(
            "auto keeps the teacher's values where views come again; off gives the same bits again"
        ),
    ] = "off"
    cache_dir: Annotated[
        str | None, key("keep them in a file here, for later runs with the same teacher")
    ] = None
