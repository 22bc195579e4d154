"""Settings and options of the measurements, known without torch."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

from avalanche_proxyfda._files import expanded

FEW = "proxy-fda, 32 proxies"
LOSSES = ("fda", "proxy-fda", FEW, "rkd", "rift", "pkt", "soft-fda")
"""Losses on a batch of features, which :data:`benchmarks.perf.losses.LOSSES` makes."""
COUNTED = (*LOSSES, "ldifs", "lwf", "l2sp")
"""Losses whose operations are counted: some are on maps, logits and weights."""
QUALITY = 75
"""Quality of JPEGs, the default of PIL: about 29 kB for a photograph; 90 gives 62 kB."""


@dataclass(frozen=True)
class Setting:
    """Settings that all arms of a measurement share.

    Attributes:
        model: ``"tiny-clip"``, or an architecture of open_clip, with random weights.
        batch: B, images a batch.
        batches: batches an epoch.
        precision: see ``train.precision`` of the runner.
        device: device of the training.
        workers: processes of the loader.
        seed: seed of images, weights, batches and turns.
    """

    model: str = "ViT-B-32"
    batch: int = 64
    batches: int = 1
    precision: str = "float32"
    device: str = "cpu"
    workers: int = 0
    seed: int = 0


def workers_of(device: str) -> int:
    """Return the usual number of loader processes: none on the CPU, which they would share."""
    return 0 if device == "cpu" else min(8, os.cpu_count() or 1)


def of_overhead(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``perf overhead``."""
    _add_setting(parser)
    parser.add_argument(
        "--rounds",
        type=int,
        default=None,
        help="measured steps an arm; default: 5, or 3 with --quick",
    )
    parser.add_argument(
        "--arms",
        nargs="+",
        default=None,
        metavar="ARM",
        help="methods; 'fda, cached' has a cached teacher; default: all, in four heats",
    )


def _add_setting(parser: argparse.ArgumentParser) -> None:
    """Declare the options that :func:`benchmarks.perf.overhead.setting_of` reads."""
    plain = Setting()
    parser.add_argument(
        "--model", default=plain.model, help="architecture of open_clip, or tiny-clip"
    )
    parser.add_argument("--batch", type=int, default=plain.batch, help="images a batch")
    parser.add_argument(
        "--batches",
        type=int,
        default=None,
        help="batches an epoch; default: 1 on the CPU, 16 on a GPU",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bf16", "fp16"),
        default=plain.precision,
        help="autocast of forwards",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, or the type of an accelerator")
    parser.add_argument(
        "--workers",
        type=int,
        default=None,
        help="processes of the loader; default: 0 on the CPU, on a GPU 8 or the number of cores",
    )
    parser.add_argument(
        "--seed", type=int, default=plain.seed, help="seed of images, weights and turns"
    )


def _add_batches(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batches", nargs="+", type=int, default=None, metavar="B", help="sizes of the batch"
    )


def _add_losses(parser: argparse.ArgumentParser, losses: Sequence[str]) -> None:
    parser.add_argument(
        "--losses",
        nargs="+",
        choices=losses,
        default=losses,
        help="losses to measure; default: all",
    )


def of_memory(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``perf memory``."""
    _add_batches(parser)
    parser.add_argument(
        "--dims", nargs="+", type=int, default=None, metavar="D", help="widths of the features"
    )
    _add_losses(parser, LOSSES)
    parser.add_argument(
        "--budget",
        type=float,
        default=60.0,
        help="skip a size that may take more seconds than this",
    )


def of_operations(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``perf operations``."""
    _add_batches(parser)
    parser.add_argument("--dim", type=int, default=512, help="width of the features")
    _add_losses(parser, COUNTED)
    parser.add_argument(
        "--memory",
        type=float,
        default=80.0,
        metavar="GIB",
        help="memory of the simulated accelerator, which decides the size of chunks",
    )


def of_scaling(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``perf scaling``."""
    _add_batches(parser)
    _add_losses(parser, LOSSES)
    parser.add_argument(
        "--budget",
        type=float,
        default=30.0,
        help="skip a size whose step may take more seconds than this",
    )
    parser.add_argument(
        "--repeats", type=int, default=None, help="steps a size; default: 5, or 2 with --quick"
    )
    parser.add_argument("--device", default="auto", help="auto, or a device of torch such as cpu")
    parser.add_argument(
        "--ranks",
        nargs="*",
        type=int,
        default=None,
        metavar="N",
        help="numbers of ranks that share a batch; default: 1, and as many as there are "
        "accelerators (2 on a CPU), or none with --quick",
    )
    parser.add_argument(
        "--model",
        default=None,
        help="model of the ranks; default: ViT-B-32, or tiny-clip with --quick",
    )


def of_cache(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``perf cache``."""
    parser.add_argument("--method", default="proxy-fda", help="a method with a teacher")
    _add_setting(parser)
    parser.set_defaults(batch=32, batches=3)
    parser.add_argument(
        "--rounds",
        type=int,
        default=None,
        help="measured steps with a full cache; default: 3, or 2 with --quick",
    )


def of_input(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``perf input``."""
    parser.add_argument("--images", type=int, default=None, help="JPEGs of 500 x 375; default: 256")
    parser.add_argument("--quality", type=int, default=QUALITY, help="quality of the JPEGs")
    parser.add_argument("--batch", type=int, default=64, help="images of a batch")
    parser.add_argument("--rounds", type=int, default=None, help="epochs of each pipeline")
    parser.add_argument("--device", default="cpu", help="device that the images go to")


def of_page(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``perf page``."""
    parser.add_argument("page", type=expanded, help="Markdown page, such as docs/performance.md")
    parser.add_argument(
        "--of",
        type=expanded,
        default=None,
        metavar="FOLDER",
        help="folder of the reports; default: the page's name without .md",
    )


OF = {
    "overhead": of_overhead,
    "memory": of_memory,
    "operations": of_operations,
    "scaling": of_scaling,
    "input": of_input,
    "cache": of_cache,
}
"""Functions that declare the command line of each measurement."""
