"""``python -m benchmarks features``: draws the features of a data set before and after a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from avalanche_proxyfda._files import expanded, write_bytes
from benchmarks.config import Config
from benchmarks.execution.launcher import check_folder
from benchmarks.execution.stopping import typed
from benchmarks.reproduce.feature_report import both_features, report_files
from benchmarks.reproduce.figure_words import Drawing
from benchmarks.reproduce.from_record import (
    chosen_set,
    config_of,
    finished_record,
    pretrained,
    shown,
)
from benchmarks.reproduce.here import add_places, here_of
from benchmarks.reproduce.pictures import forgotten
from benchmarks.reproduce.projection import umap_library
from benchmarks.reproduce.verdict import verdict, why_chosen
from benchmarks.reproduce.weights import kept_weights, tower_of, weights_again
from benchmarks.results.record import Record


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
    record = finished_record(args.run)
    config, name = config_of(record, here_of(args)), chosen_set(record, args.data_set)
    out = args.out or args.run.parent / "features"
    check_folder(out)
    prepared = pretrained(config, record)
    images = shown(prepared, record, name, args.split, args.images)
    count = len(images.rows)
    near = args.neighbors or max(1, min(10, count // 3))
    if near >= count:
        raise ValueError(f"--neighbors {near} must be below the {count} images")
    content, tuned, note = _tuned(args.run, record, config)
    rows = both_features(prepared, images, config, tower_of(content))
    drawing = Drawing(args.split, near, args.method)
    files, neighbors = report_files(tuned, config, images, drawing, rows, note)
    for file, written in files.items():
        write_bytes(out / file, written)
        print(out / file)
    print(
        f"{name}: {100 * neighbors.mean:.1f} % of the {near} nearest neighbours kept, "
        f"mean over {count} images; {len(neighbors.torn)} lost more than half."
    )
    print(verdict(tuned, name, neighbors.mean))
    if args.data_set is None:
        print(why_chosen(record, name))
    for line in forgotten(images, neighbors, near):
        print(line)
    places = [word for each in args.place for word in ("--place", each)]
    data = [] if args.data is None else ["--data", args.data]
    print(f"To take the tuned model home:\n{typed('export', args.run, *data, *places)}")
    return 0


def _tuned(path: Path, record: Record, config: Config) -> tuple[bytes, Record, str]:
    """Weights of the tuned model, the record of that model, and a note for the figure."""
    content = kept_weights(path, record)
    if content is not None:
        print("The tuned model is the one that the run kept.", flush=True)
        return content, record, ""
    return weights_again(config, record, "The figure shows")
