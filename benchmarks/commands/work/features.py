"""Draws the features of ``python -m benchmarks features``."""

from __future__ import annotations

import argparse
from pathlib import Path

from avalanche_proxyfda._files import write_bytes
from benchmarks.config import Config
from benchmarks.execution.policy import check_folder
from benchmarks.execution.stopping import typed
from benchmarks.reproduce.feature_report import both_features, report_files
from benchmarks.reproduce.figure_words import Drawing
from benchmarks.reproduce.from_record import config_of, pretrained, shown
from benchmarks.reproduce.here import Here
from benchmarks.reproduce.pictures import forgotten, missing_glyphs_said
from benchmarks.reproduce.verdict import verdict, why_chosen
from benchmarks.reproduce.weights import kept_weights, tower_of, weights_again
from benchmarks.results.record import Record


def draw_features(args: argparse.Namespace, record: Record, here: Here, name: str) -> int:
    """Draw the features, print the paths of the files, and return 0.

    Args:
        args: options of the command.
        record: record of the finished run.
        here: places of the data on this machine.
        name: data set to draw.

    Raises:
        ValueError: if this version does not accept the configuration, the images or weights are
            not those of the run, or there are too few images.
        OSError: if a file cannot be read or written.
    """
    config = config_of(record, here)
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
    with missing_glyphs_said():
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
