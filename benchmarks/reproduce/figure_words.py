"""Title, panel titles and caption of the figure of features."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.config import Config
from benchmarks.reproduce.figure import WORST, Words
from benchmarks.reproduce.from_record import Shown
from benchmarks.reproduce.projection import Method, Neighbors
from benchmarks.results.record import Record
from benchmarks.streams.concepts.data import Split

_MOST_NAMED = 6  # experiences that the caption names one by one


@dataclass(frozen=True)
class Drawing:
    """How the features of a data set are drawn.

    Attributes:
        split: split of the data set.
        count: number K of neighbours of an image.
        method: projection of the features onto a plane.
    """

    split: Split
    count: int
    method: Method


def words_of_figure(
    record: Record, config: Config, images: Shown, drawing: Drawing, neighbors: Neighbors
) -> Words:
    """Text of the figure.

    Args:
        record: record of the tuned model, of a finished run.
        config: configuration of the run.
        images: N images of one data set.
        drawing: split and number of neighbours.
        neighbors: lost neighbours of the images.
    """
    assert record.stream is not None
    learnt, role = record.stream.experiences, "never tuned on"
    if images.experience is not None:
        role = f"learnt as number {images.experience} of {len(learnt)}"
    first, last = _probed(record, images, drawing.split)
    kept = f"{100 * neighbors.mean:.0f} % of neighbours kept"
    after = ", ".join(filter(None, (last, kept)))
    return Words(
        f"{images.name}, {role}: the same images before and after tuning",
        (
            f"pre-trained model\n{first or ' '}",
            f"tuned by {config.about}, seed {config.seed}\n{after}",
        ),
        _caption(learnt, images, drawing, neighbors),
    )


def _probed(record: Record, images: Shown, split: Split) -> tuple[str, str]:
    """Accuracies of the linear probe before and after; empty where none was measured."""
    assert record.outcome is not None
    panel = record.outcome.panel
    if not panel or images.experience is not None or split == "train":
        return "", ""
    values = [moment.linear_probe[split].get(images.name) for moment in (panel[0], panel[-1])]
    first, last = ("" if v is None else f"linear probe {100 * v:.1f} %" for v in values)
    return first, last


def _caption(learnt: tuple[str, ...], images: Shown, drawing: Drawing, neighbors: Neighbors) -> str:
    names = ", ".join(learnt) if len(learnt) <= _MOST_NAMED else f"{len(learnt)} experiences"
    shown, torn, worst = len(images.rows), len(neighbors.torn), len(neighbors.worst(WORST))
    split, count = drawing.split, drawing.count
    text = (
        f"Tuned on {names}. "
        f"Each point is one of {shown} {split} images, of {len(set(images.labels))} classes by "
        "colour and shape; both panels show the same images on the same axes, which the "
        f"pre-trained features alone decide. Ringed: images of whose {count} nearest neighbours "
        "(by cosine, in all dimensions) more than half are no longer neighbours under the tuned "
        f"model: {torn} of {shown}."
    )
    if worst:
        text += (
            f" Numbered: the {worst} that lost the most; grey lines lead from them to the "
            "neighbours that they lost (dotted: where these were)."
        )
    return text
