"""``python -m benchmarks features``: draws the features of a data set before and after a run."""

from __future__ import annotations

import argparse

from avalanche_proxyfda._files import expanded
from benchmarks.commands import work
from benchmarks.reproduce.here import add_places, here_of
from benchmarks.reproduce.recorded import chosen_set, config_in, finished_record
from benchmarks.reproduce.umap_learn import umap_library


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks features``."""
    parser.add_argument(
        "--run",
        required=True,
        type=expanded,
        metavar="RECORD.json",
        help="record of a finished run",
    )
    add_places(parser)
    parser.add_argument(
        "--set",
        default=None,
        metavar="NAME",
        dest="data_set",
        help="data set of the run's panel or stream, or the end or the beginning of its name; "
        "default: the set of the panel that lost the most neighbours, or without a panel the set "
        "of the stream that lost the most accuracy",
    )
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), default="test", help="default: test"
    )
    parser.add_argument(
        "--out",
        type=expanded,
        default=None,
        help="output folder; default: features/ beside the record",
    )
    parser.add_argument(
        "--neighbors",
        type=int,
        default=None,
        metavar="K",
        help="neighbours an image; default: 10, or a third of the images if that is less",
    )
    parser.add_argument(
        "--images", type=int, default=400, help="largest number of images; default: 400"
    )
    parser.add_argument(
        "--method",
        choices=("pca", "umap"),
        default="pca",
        help="projection of the pre-trained features onto a plane; umap needs umap-learn",
    )


def main(args: argparse.Namespace) -> int:
    """Draw the features, print the paths of the files, and return 0.

    Raises:
        ValueError: if an option or the record is refused.
        ImportError: if UMAP is chosen and not installed.
        OSError: if a file cannot be read or written.
    """
    for name, value in (("--neighbors", args.neighbors), ("--images", args.images)):
        if value is not None and value < 1:
            raise ValueError(f"{name} {value}: at least one")
    if args.method == "umap":
        umap_library()
    record, here = finished_record(args.run, "--run"), here_of(args)
    config_in(record, here)  # what is refused is refused before torch is imported
    name = chosen_set(record, args.data_set)
    return work.draw_features(args, record, here, name)
