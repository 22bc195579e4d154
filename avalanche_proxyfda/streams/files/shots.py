"""Few training images of each class, drawn by a seed or listed by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._random import mixed_seed
from avalanche_proxyfda.streams.files.folder_parts import listed
from avalanche_proxyfda.streams.files.labelled import DataSet, Labelled

ShotList = Mapping[str, Sequence[str | int]]
"""Training images of each class, by class name: relative paths, or rows of the source."""


def drawn_shots(data: DataSet, shots: int, seed: int = 0, name: str | None = None) -> DataSet:
    """Keep at most ``shots`` training images of each class, chosen at random.

    The choice depends on seed, name, and the order of the training images. Neither torch's nor
    NumPy's global generator is drawn from. A class with fewer images keeps all of them, and
    none repeats, as in CoOp's code (Zhou et al., IJCV 2022). Draws of a seed are nested: more
    shots keep the images of fewer shots. Validation and test stay as they are, so the validation
    images are split off before.

    Args:
        data: data set.
        shots: k, images of a class.
        seed: seed of the choice.
        name: name of the data set in the random stream; None takes ``data.name``.

    Raises:
        TypeError, ValueError: if ``shots`` is no int >= 1, or ``seed`` no int >= 0.
    """
    check_count("shots", shots, 1)
    check_count("seed", seed, 0)
    random = np.random.default_rng(mixed_seed("shots", seed, name or data.name))
    labels, chosen = np.asarray(data.train.targets), []
    for label in range(len(data.classes)):
        rows = np.flatnonzero(labels == label)
        chosen += random.permutation(rows)[:shots].tolist()
    return replace(data, train=_kept(data.train, sorted(chosen)))


def listed_shots(data: DataSet, images: ShotList) -> DataSet:
    """Keep the training images of a list.

    A path is the end of the image's own path, with as many folders as name one training image:
    ``"dog/1.jpg"`` for ``"train/dog/1.jpg"``. A number is a row of the published training
    images, for packs and arrays.

    Args:
        data: data set.
        images: training images of every class, by class name.

    Raises:
        ValueError: if the list misses a class or names an unknown one, has no image of a class
            or more than there are, or names an image that is repeated, unknown, ambiguous, or
            of another class.
    """
    missing = [name for name in data.classes if not images.get(name)]
    unknown = [name for name in images if name not in data.classes]
    if missing or unknown:
        fault = (
            f"no image of {listed(missing)}" if missing else f"unknown classes {listed(unknown)}"
        )
        raise ValueError(f"the list of {data.name} has {fault}: it needs every class by its name")
    index, chosen = _Index(data.train), []
    for label, name in enumerate(data.classes):
        there = data.train.targets.count(label)
        if len(images[name]) > there:
            raise ValueError(
                f"the list of {data.name} asks for {len(images[name])} images of {name!r}, and "
                f"train has {there}: shorten the list, or set the validation share to 0"
            )
        for image in images[name]:
            place = index.find(image, f"the list of {data.name}")
            if data.train.targets[place] != label:
                other = data.classes[data.train.targets[place]]
                raise ValueError(
                    f"the list of {data.name} has {image!r} under {name!r}, and it is an image "
                    f"of {other!r}: move it to the list of {other!r}"
                )
            chosen.append(place)
        if len(set(chosen)) < len(chosen):
            raise ValueError(
                f"the list of {data.name} repeats an image of {name!r}: name each image once"
            )
    return replace(data, train=_kept(data.train, sorted(chosen)))


def read_shot_list(path: Path) -> dict[str, ShotList]:
    """Read the lists of several data sets from a JSON file: ``{set: {class: [image, ...]}}``.

    Args:
        path: the file; an image is a path or a number, see :func:`listed_shots`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no JSON of this form.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: there is no such list of images") from error
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    sets = content.items() if isinstance(content, dict) else [("", None)]
    for name, classes in sets:
        whole = isinstance(classes, dict) and all(
            isinstance(images, list) and all(type(image) in (str, int) for image in images)
            for images in classes.values()
        )
        if not whole:
            raise ValueError(
                f"{path}{f', {name!r}' * bool(name)}: expected {{set: {{class: [image, ...]}}}}, "
                "with a path or a row for each image"
            )
    return dict(content)


class _Index:
    """Training images by row, and by the last part of their path."""

    def __init__(self, part: Labelled) -> None:
        self._rows = {row: k for k, row in enumerate(part.rows)}
        self._paths: dict[str, list[tuple[str, int]]] = {}
        for k in range(len(part)):
            file = part.file(k)
            path = part.place(k) if file is None else file.as_posix()
            self._paths.setdefault(path.rpartition("/")[2], []).append((f"/{path.lstrip('/')}", k))

    def find(self, image: str | int, where: str) -> int:
        """Return the place of an image; raise ValueError if it is not one of train's."""
        if isinstance(image, int):
            places = [self._rows[image]] if image in self._rows else []
        else:
            given = f"/{image.removeprefix('./').lstrip('/')}"
            same = self._paths.get(image.rpartition("/")[2], ())
            places = [k for path, k in same if path.endswith(given)]
        if len(places) != 1:
            fault = "is no training image" if not places else f"names {len(places)} images"
            remedy = (
                "give its path with more folders" if places else "it may be of validation or test"
            )
            raise ValueError(f"{where}: {image!r} {fault}; {remedy}")
        return places[0]


def _kept(part: Labelled, places: Sequence[int]) -> Labelled:
    return Labelled(
        part.source,
        tuple(part.rows[k] for k in places),
        tuple(part.targets[k] for k in places),
    )
