"""``python -m benchmarks features``: draws the features of a data set before and after a run."""

from __future__ import annotations

import argparse
import csv
import io
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from benchmarks.config import Config
    from benchmarks.experiment.prepare import Prepared
    from benchmarks.reproduce.figure import Words
    from benchmarks.reproduce.from_record import Shown
    from benchmarks.reproduce.projection import Neighbors, Projection
    from benchmarks.results.record import Record

FIELDS = ("index", "class", "x_before", "y_before", "x_after", "y_after", "share_kept")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of ``python -m benchmarks features``."""
    parser.add_argument(
        "--run", required=True, type=Path, metavar="RECORD.json", help="record of a finished run"
    )
    parser.add_argument(
        "--set",
        default=None,
        metavar="NAME",
        dest="data_set",
        help="data set of the run's panel or stream; default: the set of the panel that lost the "
        "most neighbours",
    )
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), default="test", help="default: test"
    )
    parser.add_argument(
        "--out", type=Path, default=None, help="output folder; default: features/ beside the record"
    )
    parser.add_argument(
        "--neighbors", type=int, default=10, metavar="K", help="neighbours an image; default: 10"
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
    from avalanche_proxyfda._files import write_bytes
    from benchmarks.commands.run import check_folder
    from benchmarks.reproduce.figure import draw, saved
    from benchmarks.reproduce.from_record import (
        chosen_set,
        config_of,
        features,
        finished_record,
        pretrained,
        shown,
    )
    from benchmarks.reproduce.projection import neighbors_lost, project, umap_library

    for name, value in (("--neighbors", args.neighbors), ("--images", args.images)):
        if value < 1:
            raise ValueError(f"{name} {value}: at least one")
    if args.method == "umap":
        umap_library()
    record = finished_record(args.run)
    config, name = config_of(record), chosen_set(record, args.data_set)
    out = args.out or args.run.parent / "features"
    check_folder(out)
    prepared = pretrained(config, record)
    images = shown(prepared, record, name, args.split, args.images)
    if args.neighbors >= len(images.rows):
        raise ValueError(
            f"--neighbors {args.neighbors} must be below the {len(images.rows)} images"
        )
    tower = prepared.model.tower
    before = features(tower, images, config, prepared.device)
    state, record, note = _tuned(args.run, record, config, prepared)
    try:
        tower.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the run's tuned weights do not fit its tower: {error}") from error
    after = features(tower, images, config, prepared.device)
    places, neighbors = (
        project(before, after, args.method),
        neighbors_lost(before, after, args.neighbors),
    )
    words = _words(record, config, images, args.split, args.neighbors, neighbors, note)
    extra = [x for x, usual in ((args.split, "test"), (args.method, "pca")) if x != usual]
    stem = "-".join((record.label, re.sub(r"[^\w.-]+", "_", name), *extra))
    figure = draw(places, neighbors, images.labels, images.classes, words)
    for kind, content in {**saved(figure), "csv": _csv(places, neighbors, images)}.items():
        write_bytes(out / f"{stem}.{kind}", content)
        print(out / f"{stem}.{kind}")
    print(
        f"{name}: {100 * neighbors.mean:.1f} % of the {args.neighbors} nearest neighbours kept, "
        f"mean over {len(images.rows)} images; {len(neighbors.torn)} lost more than half."
    )
    return 0


def _tuned(
    path: Path, record: Record, config: Config, prepared: Prepared
) -> tuple[dict[str, Tensor], Record, str]:
    """The state of the tuned tower, the record of that model, and a note for the figure."""
    from tqdm import tqdm

    from benchmarks.experiment.prepare import planned_steps
    from benchmarks.reproduce.weights import kept_weights, tower_of, trained_again

    content = kept_weights(path, record)
    if content is not None:
        print("The tuned model is the one that the run kept.", flush=True)
        return tower_of(content), record, ""
    print("The run kept no weights (where.keep_weights=true does): training it again.", flush=True)
    steps = planned_steps(config, prepared.stream)
    with tqdm(total=steps, desc="steps", unit="step", mininterval=2) as bar:

        def stepped() -> None:
            bar.update()

        content, again = trained_again(config, stepped, record.how.machine.threads)
    if again.reproducible() == record.reproducible():
        print("The run was reproduced: all its numbers are those of the record.")
        return tower_of(content), record, ""
    then, now = record.how.machine, again.how.machine
    print(
        "WARNING: THE RUN WAS NOT REPRODUCED: trained again, it gave other numbers than the "
        "record's.\nThe figure shows the model of this time, not the record's. Then: "
        f"{then.processor}, {then.device}, {then.threads} threads; now: {now.processor}, "
        f"{now.device}, {now.threads} threads.",
        file=sys.stderr,
    )
    return tower_of(content), again, "Trained again, with other numbers than the record's. "


def _words(
    record: Record,
    config: Config,
    images: Shown,
    split: str,
    k: int,
    neighbors: Neighbors,
    note: str,
) -> Words:
    from benchmarks.reproduce.figure import WORST, Words

    assert record.stream is not None
    assert record.outcome is not None
    learnt, panel = record.stream.experiences, record.outcome.panel
    role = "never tuned on"
    if images.experience is not None:
        role = f"learnt as number {images.experience} of {len(learnt)}"
    probed: list[str] = []
    for moment in (panel[0], panel[-1]) if panel else ():
        accuracies = {**moment.linear_probe}.get(split, {})  # type: ignore[call-overload]
        value = accuracies.get(images.name) if images.experience is None else None
        probed.append("" if value is None else f"linear probe {100 * value:.1f} %")
    first, last = probed or ("", "")
    kept = f"{100 * neighbors.mean:.0f} % of neighbours kept"
    count, torn, worst = len(images.rows), len(neighbors.torn), len(neighbors.worst(WORST))
    caption = (
        f"{note}Tuned on {', '.join(learnt) if len(learnt) < 7 else f'{len(learnt)} experiences'}. "
        f"Each point is one of {count} {split} images, of {len(set(images.labels))} classes by "
        "colour and shape; both panels show the same images on the same axes, which the "
        f"pre-trained features alone decide. Ringed: images of whose {k} nearest neighbours (by "
        "cosine, in all dimensions) more than half are no longer neighbours under the tuned "
        f"model: {torn} of {count}."
    )
    if worst:
        caption += (
            f" Numbered: the {worst} that lost the most; grey lines lead from them to the "
            "neighbours that they lost (dotted: where these were)."
        )
    return Words(
        f"{images.name}, {role}: the same images before and after tuning",
        (
            f"pre-trained model\n{first or ' '}",
            f"tuned by {config.about}, seed {config.seed}\n{', '.join(filter(None, (last, kept)))}",
        ),
        caption,
    )


def _csv(places: Projection, neighbors: Neighbors, images: Shown) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for k, (row, label) in enumerate(zip(images.rows, images.labels, strict=True)):
        numbers = (*places.before[k], *places.after[k], neighbors.kept[k])
        writer.writerow([row, images.classes[label], *(f"{x:.6f}" for x in numbers)])
    return text.getvalue().encode()
