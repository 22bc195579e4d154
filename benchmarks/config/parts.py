"""Parts of every configuration: backbone, head, panel, training, place."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from benchmarks.config.fields import STRICT, key
from benchmarks.config.words import SetWords

Colour = tuple[float, float, float]
Decay = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(gt=0)]
TEMPLATES = ("a photo of a {}.", "an image of a {}.", "a drawing of a {}.", "a {}.")
"""The usual prompts of the zero-shot head, equal to those of the package."""
PACKAGED = "package:"
"""Begins a value of ``backbone.weights`` that a distribution of the package index carries."""
FIRST = "first"
"""The value of ``head.train_template`` for the first prompt of each set."""


Tower = Literal["full", "frozen"]


@dataclass(frozen=True, config=STRICT)
class TrainedTowers:
    """The towers that are trained."""

    image: Annotated[Tower, key("the image tower")] = "full"
    text: Annotated[Tower, key("the text tower; full needs head.kind=zero-shot")] = "frozen"


@dataclass(frozen=True, config=STRICT)
class Backbone:
    """The pre-trained image tower."""

    name: Annotated[str, key("open_clip:ARCHITECTURE/TAG, timm:MODEL or tiny-clip")] = "tiny-clip"
    weights: Annotated[str | None, key("local file, package:NAME, or random; null: the hub's")] = (
        None
    )
    image_size: Annotated[int | None, key("side in pixels; null: the model's", gt=0)] = None
    mean: Annotated[Colour | None, key("mean of the channels; null: the model's")] = None
    std: Annotated[Colour | None, key("standard deviation of the channels; null: the model's")] = (
        None
    )
    options: Annotated[dict[str, Any], key("further arguments of the library's create_model")] = (
        Field(default_factory=dict)
    )
    train: Annotated[TrainedTowers, key("the towers that are trained", since_records=False)] = (
        Field(default_factory=TrainedTowers)
    )

    @property
    def is_random(self) -> bool:
        """True if the seed of the run draws the weights."""
        return self.weights == "random"

    @property
    def in_file(self) -> bool:
        """True if the weights are in a local file, which may change under its name."""
        named = self.weights is None or self.weights.startswith(PACKAGED)
        return not (named or self.is_random)


@dataclass(frozen=True, config=STRICT)
class Head:
    """The layer that makes logits of embeddings."""

    kind: Annotated[
        Literal["probe", "random", "zero-shot", "text-start"],
        key("linear, fitted before training; linear, random; texts, fixed; linear, from texts"),
    ] = "probe"
    l2: Annotated[
        float | None, key("penalty of the probe; null: chosen on a fifth of the images", gt=0)
    ] = None
    templates: Annotated[tuple[str, ...], key("prompts of the classes' texts")] = TEMPLATES
    train_template: Annotated[
        str | None,
        key(
            "one prompt for training with a zero-shot head; first: each set's first; null: all",
            since_records=False,
        ),
    ] = None
    prompts: Annotated[
        Literal["shared", "per-set"],
        key(
            "head.templates for all sets; class names and prompts of each set, of clip-benchmark",
            since_records=False,
        ),
    ] = "shared"
    words: Annotated[
        str | dict[str, SetWords] | None,
        key(
            "your own, in a JSON or YAML file {set: {classes: …, templates: …}}; a run keeps it",
            since_records=False,
        ),
    ] = None


@dataclass(frozen=True, config=STRICT)
class Panel:
    """Data sets for probes before and after training; no method is tuned on them."""

    sets: Annotated[tuple[str, ...], key("names as in a sequence, or names of concepts")] = ()
    train: Annotated[int | None, key("largest number of training images a set", gt=0)] = None
    test: Annotated[
        int | None, key("largest number of validation images, and of test images, a set", gt=0)
    ] = None
    each_experience: Annotated[
        bool, key("true: measure after each experience; false: before and after the stream")
    ] = False
    transport: Annotated[bool, key("true: measure OTDD after the last experience; slow")] = False


@dataclass(frozen=True, config=STRICT)
class Train:
    """Training of every method: one optimizer, warm-up, cosine decay, clipped gradients."""

    lr: Annotated[float, key("peak rate of the tower; 0 freezes it", ge=0)] = 1e-5
    head_lr: Annotated[float | None, key("peak rate of the head; null: the tower's", gt=0)] = None
    lr_factors: Annotated[
        tuple[Factor, ...] | dict[str, Factor] | None,
        key(
            "factors of all rates: one for each experience, or by data set, others 1",
            since_records=False,
        ),
    ] = None
    text_lr: Annotated[
        float | None,
        key(
            "peak rate of a trained text tower; null: the image tower's", since_records=False, gt=0
        ),
    ] = None
    layer_decay: Annotated[
        float | None,
        key(
            "factor of a tower's rate for each block from the top; null: one rate",
            since_records=False,
            gt=0,
            le=1,
        ),
    ] = None
    optimizer: Annotated[
        Literal["adamw", "adam", "sgd"],
        key("optimizer of tower and head, as torch has it", since_records=False),
    ] = "adamw"
    betas: Annotated[
        tuple[Decay, Decay], key("decay rates of the means of AdamW and Adam", since_records=False)
    ] = (0.9, 0.999)
    momentum: Annotated[float, key("momentum of SGD", since_records=False, ge=0, lt=1)] = 0.0
    weight_decay: Annotated[
        float, key("AdamW: decay of the weights; Adam and SGD: L2, within the gradient", ge=0)
    ] = 0.1
    epochs: Annotated[
        Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], ...],
        key("epochs of every experience, or one number for each"),
    ] = 1
    steps: Annotated[
        Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], ...] | None,
        key(
            "optimizer steps of every experience, or one number for each, in place of epochs",
            since_records=False,
        ),
    ] = None
    batch: Annotated[int, key("samples of a forward", ge=2)] = 64
    eval_batch: Annotated[int, key("samples of an evaluation step", ge=1)] = 64
    batches: Annotated[
        Literal["balanced", "shuffled"],
        key("related classes in equal parts, or shuffled images"),
    ] = "balanced"
    classes_per_batch: Annotated[
        int, key("largest number of classes in a balanced batch", ge=2)
    ] = 16
    samples_per_class: Annotated[
        int | None,
        key("samples of a class in a balanced batch; null: fill the batch", ge=1),
    ] = None
    workers: Annotated[
        int,
        key("processes that load images; with pipeline=pil, random views depend on it", ge=0),
    ] = 0
    warm_up: Annotated[
        float, key("share of an experience's steps in which the rate rises", ge=0, lt=1)
    ] = 0.1
    label_smoothing: Annotated[
        float,
        key(
            "share of a label that is spread over its classes, in training",
            since_records=False,
            ge=0,
            lt=1,
        ),
    ] = 0.0
    clip: Annotated[
        float | None, key("largest norm of the gradient; null: it is not clipped", gt=0)
    ] = 1.0
    batch_norm: Annotated[
        Literal["update", "frozen"],
        key("statistics of the tower's batch norms: the stream's, or those of pre-training"),
    ] = "update"
    precision: Annotated[
        Literal["auto", "float32", "bf16", "fp16"],
        key(
            "dtype of forwards, by autocast; auto: bf16 on an accelerator that has it",
            since_records=False,
        ),
    ] = "float32"
    tf32: Annotated[
        bool | None,
        key(
            "TF32 in float32 products and convolutions; null: as torch has it", since_records=False
        ),
    ] = None
    deterministic: Annotated[
        bool,
        key(
            "true: deterministic algorithms alone, so that a GPU repeats its bits",
            since_records=False,
        ),
    ] = False
    compile: Annotated[
        bool, key("true: torch.compile for forwards of the tower", since_records=False)
    ] = False
    accumulate: Annotated[
        int,
        key(
            "batches of an optimizer step; each batch has its own neighbour graph",
            since_records=False,
            ge=1,
        ),
    ] = 1
    channels_last: Annotated[bool, key("true: channels-last memory, faster for CNNs on a CPU")] = (
        False
    )
    augment: Annotated[
        Literal["none", "crop", "flip-crop", "library"],
        key("crop: 90 % of the image or more; flip-crop: 8 % or more, mirrored at random"),
    ] = "none"
    pipeline: Annotated[
        Literal["pil", "tensor", "cached"],
        key(
            "floats of PIL's images; uint8 to the device; the same from stored resized images",
            since_records=False,
        ),
    ] = "pil"


@dataclass(frozen=True, config=STRICT)
class Reference:
    """Unlabelled images, and texts, for methods that compare on reference data."""

    images: Annotated[
        str | None,
        key("procedural, folder:…, npz:…, or a set of torchvision; null: no", since_records=False),
    ] = None
    texts: Annotated[
        str | None,
        key("random, classes, or a text file with one text a line", since_records=False),
    ] = None
    count: Annotated[
        int | None,
        key("most images; null: all, or 2048 of procedural", since_records=False, ge=1),
    ] = None
    batch: Annotated[int, key("reference images of a step", since_records=False, ge=2)] = 64
    seed: Annotated[int, key("seed of images, texts and batches", since_records=False, ge=0)] = 0


def precision_of(train: Train) -> Literal["float32", "bf16", "fp16"]:
    """Return the precision of a run that has begun.

    Raises:
        ValueError: for ``auto``, which a run replaces before it begins.
    """
    if train.precision == "auto":
        raise ValueError(
            "train.precision=auto depends on the device: resolved() of "
            "benchmarks.experiment.numerics replaces it"
        )
    return train.precision


@dataclass(frozen=True, config=STRICT)
class Where:
    """Keys outside a run's identity: data, device, logs, checkpoints and caches."""

    data: Annotated[str, key("folder of data sets and weights")] = "data"
    url: Annotated[
        str | None,
        key("address of ImageNet-R's archive, downloaded if stream.root is missing"),
    ] = None
    sha256: Annotated[str | None, key("hash of that archive; url needs this or md5")] = None
    md5: Annotated[str | None, key("hash of that archive")] = None
    device: Annotated[str, key("auto, cpu, cuda, cuda:1, xpu, mps …")] = "auto"
    loggers: Annotated[
        tuple[Literal["text", "csv", "tensorboard", "wandb"], ...],
        key("loggers of Avalanche, in a folder beside the record"),
    ] = ()
    checkpoint_minutes: Annotated[
        float | None, key("minutes between checkpoints in training; null: not by time", gt=0)
    ] = 10.0
    checkpoint_steps: Annotated[
        int | None, key("steps between checkpoints in training; null: not by steps", ge=1)
    ] = None
    keep_weights: Annotated[
        bool, key("true: write the tuned model beside the record, as safetensors")
    ] = False
    teacher_cache: Annotated[
        Literal["auto", "off", "exact"],
        key("cache teacher features if views repeat; exact: require it; off: the same bits again"),
    ] = "off"
    pixel_dir: Annotated[
        str | None,
        key("folder of train.pipeline=cached, shared by runs; null: in each process's memory"),
    ] = None
    pixel_gb: Annotated[
        float, key("most gigabytes of one data set's stored images, 5.9 for 30 000", gt=0)
    ] = 32.0
    cache_dir: Annotated[
        str | None, key("folder of cache files, for later runs with the same teacher or texts")
    ] = None
