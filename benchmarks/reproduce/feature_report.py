"""Features of a data set before and after a run, as a figure and a table."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

from torch import Tensor

from benchmarks.config import Config
from benchmarks.experiment.prepare import Prepared
from benchmarks.reproduce.figure import WORST, draw, saved
from benchmarks.reproduce.figure_words import Drawing, words_of_figure
from benchmarks.reproduce.from_record import Shown, features
from benchmarks.reproduce.pictures import file_names, thumbnails
from benchmarks.reproduce.projection import Neighbors, Projection, neighbors_lost, project
from benchmarks.results.record import Record

FIELDS = ("index", "file", "class", "x_before", "y_before", "x_after", "y_after", "share_kept")
"""Columns of the table."""


def both_features(
    prepared: Prepared, images: Shown, config: Config, state: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Features before and after the run; the tower of ``prepared`` gets the tuned weights.

    Args:
        prepared: the run before its first step.
        images: N images.
        config: configuration of the run.
        state: state of the tuned tower.

    Returns:
        [N, D] and [N, D] float32 on the CPU.

    Raises:
        ValueError: if the tuned weights do not fit the tower.
    """
    tower = prepared.model.tower
    before = features(tower, images, config, prepared.device)
    try:
        tower.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the run's tuned weights do not fit its tower: {error}") from error
    return before, features(tower, images, config, prepared.device)


def report_files(
    record: Record,
    config: Config,
    images: Shown,
    drawing: Drawing,
    rows: tuple[Tensor, Tensor],
    note: str = "",
) -> tuple[dict[str, bytes], Neighbors]:
    """The figure as PNG and SVG, its points as CSV, and the worst images with lost neighbours.

    Args:
        record: record of the tuned model.
        config: configuration of the run.
        images: N images.
        drawing: how the features are drawn.
        rows: [N, D] features before and after the run.
        note: first words of the caption.

    Returns:
        Content of each file by its name, and the lost neighbours.

    Raises:
        ValueError, ImportError: see :func:`~benchmarks.reproduce.projection.project`.
    """
    places = project(*rows, drawing.method)
    neighbors = neighbors_lost(*rows, drawing.count)
    words = words_of_figure(record, config, images, drawing, neighbors)
    words = replace(words, caption=note + words.caption)
    figure = draw(places, neighbors, images.labels, images.classes, words)
    unusual = [x for x, usual in ((drawing.split, "test"), (drawing.method, "pca")) if x != usual]
    stem = "-".join((record.label, re.sub(r"[^\w.-]+", "_", images.name), *unusual))
    contents = {**saved(figure), "csv": _table(places, neighbors, images)}
    files = {f"{stem}.{kind}": content for kind, content in contents.items()}
    worst = neighbors.worst(WORST)
    if worst and images.source is not None:
        files[f"{stem}-images.png"] = thumbnails(images, neighbors, worst)
    return files, neighbors


def _table(places: Projection, neighbors: Neighbors, images: Shown) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    names = file_names(images)
    for k, (row, label) in enumerate(zip(images.rows, images.labels, strict=True)):
        numbers = (*places.before[k], *places.after[k], neighbors.kept[k])
        named = [row, names[k], images.classes[label]]
        writer.writerow([*named, *(f"{x:.6f}" for x in numbers)])
    return text.getvalue().encode()
