"""A tuned model that names the classes of image files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from avalanche_proxyfda._checks import check_count
from avalanche_proxyfda._files import expanded
from avalanche_proxyfda._names import nearest
from avalanche_proxyfda.models.preprocessing import Transform
from avalanche_proxyfda.models.text_tower import TextTower
from avalanche_proxyfda.streams.files.image_names import is_image_name
from avalanche_proxyfda.streams.files.images import as_rgb, load_rgb
from avalanche_proxyfda.tuned.description import Description, Task


@dataclass(frozen=True)
class Prediction:
    """The class of an image.

    Attributes:
        source: path of the image; empty for an image that is no file.
        name: name of the most probable class.
        probability: probability of that class.
        probabilities: probabilities by class name, in order of label; they sum to 1.

    Example:
        >>> from avalanche_proxyfda.tuned import Prediction
        >>> shares = {"cat": 0.25, "dog": 0.7, "fox": 0.05}
        >>> prediction = Prediction("pets/1.jpg", "dog", 0.7, shares)
        >>> likely = prediction.probabilities
        >>> sorted(likely, key=likely.get, reverse=True)[:2]  # the two most probable classes
        ['dog', 'cat']
    """

    source: str
    name: str
    probability: float
    probabilities: Mapping[str, float]


class TunedClassifier:
    """Classifies images by a tuned model; :func:`~avalanche_proxyfda.tuned.load_tuned` makes one.

    Args:
        tower: maps images [B, 3, H, W] to embeddings [B, D], in eval mode.
        state: entries of the heads, by name.
        description: tasks, with their classes and heads.
        view: maps an RGB image of PIL to an input of the tower.
        text: trained text tower of the model; None without one. Predictions take the class
            embeddings in ``state``; with the text tower,
            :func:`~avalanche_proxyfda.models.trained_text_head` builds heads of other classes.

    Raises:
        ValueError: if the description has no task, or ``state`` lacks an entry of a task's head.

    Example:
        >>> import torch
        >>> from PIL import Image
        >>> from torch import nn
        >>> from torchvision.transforms.functional import to_tensor
        >>> from avalanche_proxyfda.tuned import Description, Layer, Task, TunedClassifier
        >>> tower = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())  # the mean colour
        >>> head = Layer("head.weight", bias=None, scale=None, active=None, unit=False)
        >>> task = Task("colours", ("red", "green", "blue"), head)
        >>> description = Description(backbone={}, preprocessing={}, tasks=(task,), about={})
        >>> state = {"head.weight": torch.eye(3)}
        >>> classifier = TunedClassifier(tower, state, description, to_tensor)
        >>> classifier.predict([Image.new("RGB", (8, 8), "blue")])[0].name
        'blue'
    """

    def __init__(
        self,
        tower: nn.Module,
        state: dict[str, Tensor],
        description: Description,
        view: Transform,
        text: TextTower | None = None,
    ) -> None:
        if not description.tasks:
            raise ValueError("description has no tasks: give at least one Task")
        for task in description.tasks:
            lacking = [name for name in task.layer.names if name not in state]
            if lacking:
                raise ValueError(
                    f"state has no {', '.join(lacking)}, which the head of task {task.name!r} "
                    "names: give the entries of every head"
                )
        self.tower, self.description, self.view = tower, description, view
        self.text = text
        self._state = state

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Class names by task, in order of label."""
        return {task.name: self._names(task) for task in self.description.tasks}

    def to(self, device: torch.device | str) -> TunedClassifier:
        """Move the model; return it."""
        self.tower.to(device)
        if self.text is not None:
            self.text.to(device)
        self._state = {name: value.to(device) for name, value in self._state.items()}
        return self

    @torch.no_grad()
    def logits(self, images: Tensor, task: str | None = None) -> Tensor:
        """Return logits [B, C] of inputs [B, 3, H, W].

        Args:
            images: results of :attr:`view`, on any device.
            task: name of the task; needed if the model has several.

        Raises:
            ValueError: if the task is unknown, or missing.
        """
        layer = self._task(task).layer
        device = self._state[layer.weight].device
        return layer.logits(self._state, self.tower(images.to(device)))

    def predict(
        self,
        images: Path | str | Sequence[Path | str | Image.Image],
        task: str | None = None,
        batch_size: int = 32,
    ) -> list[Prediction]:
        """Name the class of each image.

        Args:
            images: a folder, which is read with its folders in the order of paths; a file; or
                a list of files and images of PIL.
            task: name of the task; needed if the model has several.
            batch_size: images of a forward.

        Raises:
            FileNotFoundError: if there is no such folder or file.
            ValueError: if the task is unknown or missing, a folder has no images, or an image
                cannot be read; the message then begins with its path.
        """
        check_count("batch_size", batch_size, 1)
        names = self._names(self._task(task))
        items = _listed(images)
        found: list[Prediction] = []
        for start in range(0, len(items), batch_size):
            batch = items[start : start + batch_size]
            inputs = torch.stack([self.view(_opened(item)) for item in batch])
            rows = self.logits(inputs, task).float().softmax(dim=1).cpu()
            for item, row in zip(batch, rows, strict=True):
                label = int(row.argmax())
                shares = dict(zip(names, row.tolist(), strict=True))
                source = "" if isinstance(item, Image.Image) else str(item)
                found.append(Prediction(source, names[label], float(row[label]), shares))
        return found

    def _task(self, name: str | None) -> Task:
        tasks = {task.name: task for task in self.description.tasks}
        if name is None and len(tasks) == 1:
            return next(iter(tasks.values()))
        if name not in tasks:
            near = [] if name is None else nearest(name, tasks, 1)
            raise ValueError(
                f"task={name!r}: the model has the tasks {', '.join(tasks)}; name one"
                + (f": did you mean {near[0]!r}?" if near else "")
            )
        return tasks[name]

    def _names(self, task: Task) -> tuple[str, ...]:
        return task.classes[: len(self._state[task.layer.weight])]


def _listed(images: Any) -> list[Any]:
    if not isinstance(images, (str, os.PathLike)):
        return list(images)
    place = expanded(images)
    if place.is_dir():
        files = list(_files(place))
        if not files:
            raise ValueError(
                f"{place} holds no image files, at any depth: name a folder with images, or a file"
            )
        return files
    if not place.exists():
        raise FileNotFoundError(
            f"images={str(images)!r} is neither a folder nor a file: check the path"
        )
    return [place]


def _files(folder: Path) -> Iterator[Path]:
    """Yield the image files under a folder in order, without hidden ones."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files(path)
        elif is_image_name(path.name):
            yield path


def _opened(item: Any) -> Image.Image:
    if isinstance(item, Image.Image):
        return as_rgb(item)
    return load_rgb(expanded(item))
