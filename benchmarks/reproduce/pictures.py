"""The images that were forgotten most: their files, and their pictures beside lost neighbours."""

from __future__ import annotations

import io
import re
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from benchmarks.reproduce.figure import WORST
from benchmarks.reproduce.from_record import Shown, origin, stored_image
from benchmarks.reproduce.projection import Neighbors

_SIDE = 160  # pixels of a picture
_MOST_BESIDE = 6
_MOST_NAMED = 3
_TITLE_SHARE = 0.95  # of the figure's width
_GLYPH = re.compile(r"Glyph (\d+) .*missing from")
_LONGEST = 24  # letters of a title's line


def file_names(images: Shown) -> list[str]:
    """File of each image within its data set; for images without a file, its row."""
    return [_name(images.source, row) for row in images.rows]


def forgotten(images: Shown, neighbors: Neighbors, count: int) -> Iterator[str]:
    """Lines on the images that lost the most neighbours, the worst first.

    Args:
        images: N images.
        neighbors: lost neighbours of the images.
        count: number K of neighbours of an image.
    """
    worst, names = neighbors.worst(WORST), file_names(images)
    if worst:
        yield "Most neighbours lost:"
    for number, image in enumerate(worst, start=1):
        lost = neighbors.lost[image]
        more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
        beside = ", ".join(names[k] for k in lost[:_MOST_NAMED])
        word = images.classes[images.labels[image]]
        yield f"  {number}. {names[image]} ({word}) lost {len(lost)} of {count}: {beside}{more}"


def thumbnails(images: Shown, neighbors: Neighbors, worst: Sequence[int]) -> bytes:
    """Pictures of the worst images, each beside the nearest of its lost neighbours, as PNG.

    Args:
        images: N images, with their source.
        neighbors: lost neighbours of the images.
        worst: indices of the images to show, a row each.
    """
    beside = min(_MOST_BESIDE, max(len(neighbors.lost[image]) for image in worst))
    names = file_names(images)
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(1.5 * (1 + beside), 1.9 * len(worst) + 0.5), facecolor="white")
        _entitle(figure, f"{images.name}: most neighbours lost (left), and these neighbours")
        axes = figure.subplots(len(worst), 1 + beside, squeeze=False)
        for number, image in enumerate(worst):
            for place, other in enumerate((image, *neighbors.lost[image][:beside])):
                _show(axes[number, place], images, other, names[other])
            for place in range(1 + len(neighbors.lost[image]), 1 + beside):
                axes[number, place].axis("off")
            axes[number, 0].set_ylabel(f"{number + 1}", rotation=0, labelpad=12, fontsize=12)
        figure.tight_layout()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


@contextmanager
def missing_glyphs_said() -> Iterator[None]:
    """Print one sentence in place of matplotlib's warnings about letters without a glyph."""
    missing: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for each in caught:
        found = _GLYPH.match(str(each.message))
        if found:
            missing.append(chr(int(found[1])))
        else:
            warnings.showwarning(each.message, each.category, each.filename, each.lineno)
    if missing:
        letters = " ".join(dict.fromkeys(missing))
        print(
            f"The figures show boxes for {letters}: matplotlib's font lacks these letters; the "
            "CSV file has them.",
            file=sys.stderr,
        )


def _entitle(figure: Figure, text: str) -> None:
    """Give the figure a title in as many lines as its width needs, and the height for them."""
    for columns in range(len(text), 4, -1):
        lines = textwrap.wrap(text, columns)
        title = figure.suptitle("\n".join(lines).replace("$", r"\$"), fontsize=11)
        if title.get_window_extent().width <= _TITLE_SHARE * figure.bbox.width:
            break
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.2 * (len(lines) - 1))


def _show(axes: Any, images: Shown, image: int, name: str) -> None:
    axes.imshow(np.asarray(_picture(images.source, images.rows[image])))
    axes.set_xticks([])
    axes.set_yticks([])
    words = (images.classes[images.labels[image]], name)
    lines = (word if len(word) <= _LONGEST else f"…{word[1 - _LONGEST :]}" for word in words)
    axes.set_title("\n".join(lines).replace("$", r"\$"), fontsize=7)


def _name(source: Any, row: int) -> str:
    data, row = origin(source, row)
    place = getattr(data, "place", None)
    return str(row) if place is None else str(place(row))


def _picture(source: Any, row: int) -> Image.Image:
    stored = stored_image(source, row)
    if isinstance(stored, Tensor):  # an input of tiny-clip, in [-1, 1]
        pixels = ((stored.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255)
        stored = Image.fromarray(pixels.byte().numpy())
    picture: Image.Image = stored.convert("RGB")
    picture.thumbnail((_SIDE, _SIDE))
    return picture
